import json
import os

import pytest
import yaml

from idm_ray.errors import UserError
from idm_ray.results.run_folder import RunFolder, next_free


def test_a_new_folder_is_made_with_its_parents_and_is_empty(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "digits-1", overwrite=False)
    assert run.path == tmp_path / "runs" / "digits-1"
    assert not os.listdir(run.path)


def test_a_folder_with_other_files_is_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path, overwrite=False)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["config.yaml", "condensed.parquet"])
def test_a_folder_with_a_run_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=r"found a run .*; add --overwrite or choose another --out"):
        RunFolder.create(tmp_path, overwrite=False)
    assert (tmp_path / name).read_text() == "old"


def test_overwriting_removes_the_run_and_no_other_file(tmp_path):
    run = RunFolder.create(tmp_path, overwrite=False)
    run.write_config({"ipc": 1})
    run.log({"iteration": 1})
    run.write_summary({})
    run.gallery_path.write_bytes(b"")
    run.condensed_path.write_bytes(b"")
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    (tmp_path / "tb").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    RunFolder.create(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["data", "notes.txt"]


def test_overwriting_a_folder_without_a_run_removes_nothing(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine.pt").write_text("")
    RunFolder.create(tmp_path, overwrite=True)
    assert (tmp_path / "checkpoints" / "mine.pt").exists()


def test_overwriting_does_not_follow_a_link_out_of_the_folder(tmp_path):
    run = RunFolder.create(tmp_path / "run", overwrite=False)
    run.write_config({})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("")
    (run.path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    RunFolder.create(run.path, overwrite=True)
    assert (tmp_path / "elsewhere" / "file").exists()
    assert not os.listdir(run.path)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"expected a folder at .*file, found a file"):
        RunFolder.create(tmp_path / "file", overwrite=True)
    with pytest.raises(UserError, match="Not a directory; choose another --out"):
        RunFolder.create(tmp_path / "file" / "run", overwrite=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied; choose another --out"):
        RunFolder.create(tmp_path, overwrite=False)


def test_the_config_keeps_its_order_and_comes_back(tmp_path):
    config = {"seed": 0, "ipc": 10, "classes": ["cat", "\u0142"], "nested": {"b": 1, "a": None}}
    run = RunFolder(tmp_path)
    run.write_config(config)
    text = run.config_path.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == config
    assert text.startswith("seed: 0\nipc: 10\n")


def test_reports_are_appended_line_by_line(tmp_path):
    run = RunFolder(tmp_path)
    run.log({"iteration": 1, "loss": 0.5})
    run.log({"iteration": 2, "loss": 0.25})
    lines = run.metrics_path.read_text().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [0.5, 0.25]


def test_a_report_with_nan_is_refused_and_not_written(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=r"expected finite numbers in a report, found .*nan"):
        run.log({"loss": float("nan")})
    assert not run.metrics_path.exists()


def test_the_summary_is_json(tmp_path):
    run = RunFolder(tmp_path)
    run.write_summary({"method": "idm", "whole": None})
    assert json.loads(run.summary_path.read_text()) == {"method": "idm", "whole": None}


def test_the_next_free_folder_has_the_smallest_number(tmp_path):
    assert next_free(tmp_path / "runs", "digits-idm-ipc1") == tmp_path / "runs/digits-idm-ipc1-1"
    (tmp_path / "runs" / "digits-idm-ipc1-1").mkdir(parents=True)
    (tmp_path / "runs" / "digits-idm-ipc1-3").mkdir()
    assert next_free(tmp_path / "runs", "digits-idm-ipc1") == tmp_path / "runs/digits-idm-ipc1-2"
