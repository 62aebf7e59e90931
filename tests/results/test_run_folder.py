import json
import os

import pytest
import yaml

from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.results.metrics_log import MetricsLog
from idm_ray.results.run_folder import RunFolder, next_free
from idm_ray.storage import Location


def test_a_new_folder_is_made_with_its_parents_and_is_empty(tmp_path):
    with RunFolder.create(tmp_path / "runs" / "digits-1", overwrite=False) as run:
        assert run.path == tmp_path / "runs" / "digits-1"
    assert not os.listdir(run.path)


def test_a_folder_with_other_files_is_used(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path, overwrite=False).close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["config.yaml", "condensed.parquet"])
def test_a_folder_with_a_run_is_refused_and_kept(tmp_path, name):
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=r"found a run .*; go on .* add --overwrite, or choose"):
        RunFolder.create(tmp_path, overwrite=False)
    assert (tmp_path / name).read_text() == "old"


def test_overwriting_removes_the_run_and_no_other_file(tmp_path):
    with RunFolder.create(tmp_path, overwrite=False) as run:
        run.write_config({"ipc": 1})
        MetricsLog(run.metrics_path).add({"iteration": 1})
        run.write_summary({})
        run.gallery_path.write_bytes(b"")
        run.condensed_path.write_bytes(b"")
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    for name in ("gallery", "tb"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    RunFolder.create(tmp_path, overwrite=True).close()
    assert sorted(os.listdir(tmp_path)) == ["data", "notes.txt"]


def test_overwriting_a_folder_without_a_run_removes_nothing(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "mine.pt").write_text("")
    RunFolder.create(tmp_path, overwrite=True).close()
    assert (tmp_path / "checkpoints" / "mine.pt").exists()


def test_overwriting_does_not_follow_a_link_out_of_the_folder(tmp_path):
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        run.write_config({})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("")
    (run.path / "checkpoints").symlink_to(tmp_path / "elsewhere")
    RunFolder.create(run.path, overwrite=True).close()
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


def test_a_folder_may_be_a_uri_of_this_machine_or_below_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in (f"file://{tmp_path}/run", "~/run"):
        with RunFolder.create(written, overwrite=True) as run:
            assert run.path == tmp_path / "run"
            run.write_config({})
        assert RunFolder.open(written).path == tmp_path / "run"


def test_the_config_keeps_its_order_and_comes_back(tmp_path):
    config = {"seed": 0, "ipc": 10, "classes": ["cat", "\u0142"], "nested": {"b": 1, "a": None}}
    run = RunFolder(tmp_path)
    run.write_config(config)
    text = run.config_path.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == config
    assert text.startswith("seed: 0\nipc: 10\n")


# --- A run that is there ---


@pytest.fixture
def there(tmp_path):
    """The folder of a run that has begun."""
    with RunFolder.create(tmp_path / "run", overwrite=False) as run:
        run.write_config(CONFIG)
    return run.path


CONFIG = {"format": 1, "options": RunConfig().flat(), "data": {"fingerprint": "0"}}


def test_a_run_is_found_with_its_config_and_without_a_result(there):
    with RunFolder.open(there) as run:
        assert (run.path, run.place) == (there, there)
        assert run.read_config() == CONFIG
        assert not run.is_complete
        assert run.checkpoints == Location.at(there / "checkpoints")
    assert os.listdir(there) == ["config.yaml"]


def test_a_run_with_a_summary_is_complete(there):
    run = RunFolder.open(there)
    run.write_summary({})
    assert run.is_complete


def test_a_path_is_kept_as_it_was_written_but_checkpoints_are_found_from_everywhere(
    there, monkeypatch
):
    monkeypatch.chdir(there.parent)
    run = RunFolder.open("run")
    assert str(run.path) == "run"
    assert run.checkpoints.path == str(there / "checkpoints")


@pytest.mark.parametrize(
    ("name", "found"),
    [("none", "none"), ("file", "a file"), ("empty", "one without config.yaml")],
)
def test_where_there_is_no_run_none_is_opened(tmp_path, name, found):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    path = tmp_path / name
    with pytest.raises(UserError) as raised:
        RunFolder.open(path)
    assert str(raised.value) == (
        f"expected the folder of a run at {path}, found {found}; name what --out was when the run "
        "began"
    )


def test_a_broken_config_is_named_with_its_path(there):
    (there / "config.yaml").write_text("a: [1")
    with pytest.raises(UserError, match=rf"^expected the YAML of a run in {there}/config.yaml: "):
        RunFolder.open(there).read_config()


def test_a_config_that_is_gone_since_is_named(there):
    run = RunFolder.open(there)
    (there / "config.yaml").unlink()
    with pytest.raises(UserError, match=rf"cannot read {there}/config.yaml \(No such file"):
        run.read_config()


def test_the_summary_is_json(tmp_path):
    run = RunFolder(tmp_path)
    run.write_summary({"method": "idm", "whole": None})
    assert json.loads(run.summary_path.read_text()) == {"method": "idm", "whole": None}


def test_the_next_free_folder_has_the_smallest_number(tmp_path):
    assert next_free(tmp_path / "runs", "digits-idm-ipc1") == tmp_path / "runs/digits-idm-ipc1-1"
    (tmp_path / "runs" / "digits-idm-ipc1-1").mkdir(parents=True)
    (tmp_path / "runs" / "digits-idm-ipc1-3").mkdir()
    assert next_free(tmp_path / "runs", "digits-idm-ipc1") == tmp_path / "runs/digits-idm-ipc1-2"


def test_a_run_is_called_like_its_folder_however_that_is_written(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    for written in (".", "../there", tmp_path / "there"):
        with RunFolder.create(written, overwrite=True) as folder:
            assert folder.name == "there"
