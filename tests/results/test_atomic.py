import json
import os

import pytest

from idm_ray.results.atomic import write_json, write_text


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").write_text("")
    write_text(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_missing_folder_is_reported_as_the_system_does(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "file", "text")


def test_json_keeps_the_order_of_keys_and_any_letter(tmp_path):
    write_json(tmp_path / "file.json", {"b": [1, 2.5], "a": "\u0142"})
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert list(json.loads(text)) == ["b", "a"]
    assert "\u0142" in text
    assert text.endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_refuses_numbers_it_cannot_express(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"loss": number})
    assert not os.listdir(tmp_path)
