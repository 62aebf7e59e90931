import json
import tempfile
from urllib.parse import urlsplit

import pytest

from idm_ray.errors import DataError, StorageError, UserError
from idm_ray.results.metrics_log import MetricsLog
from idm_ray.results.run_folder import RunFolder
from idm_ray.storage import Location


@pytest.fixture
def uri(store, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of working folders
    return f"{store.bucket}/runs/first"


def names(uri):
    place = Location.at(uri)
    return [entry.path for entry in place.files()] if place.exists() else []


def write_run(folder):
    folder.write_config({"ipc": 1})
    MetricsLog(folder.metrics_path).add({"iteration": 1})
    folder.condensed_path.write_bytes(b"set")
    folder.gallery_path.write_bytes(b"png")
    folder.write_summary({"method": "idm"})


def test_a_run_is_uploaded_with_the_summary_last_and_its_working_folder_removed(uri, store):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    store.proxy.forget()
    folder.hand_over()
    assert "summary.json" in store.proxy.requests[-1][1]
    assert names(uri) == [
        "condensed.parquet",
        "config.yaml",
        "gallery.png",
        "metrics.jsonl",
        "summary.json",
    ]
    assert json.loads((Location.at(uri) / "summary.json").read_bytes()) == {"method": "idm"}
    assert (Location.at(uri) / "condensed.parquet").read_bytes() == b"set"
    assert not folder.path.exists()
    assert folder.place == Location.at(uri)


def uploaded(store):
    """Names of the files uploaded since the last call, in their order."""
    requests = [path for method, path in store.proxy.requests if method in ("PUT", "POST")]
    store.proxy.forget()
    return list(dict.fromkeys(urlsplit(path).path.rpartition("/")[2] for path in requests))


def test_publishing_uploads_what_is_there_and_again_what_has_changed(uri, store):
    folder = RunFolder.create(uri, overwrite=False)
    store.proxy.forget()
    folder.write_config({"ipc": 1})
    folder.publish()
    assert uploaded(store) == ["config.yaml"]
    log = MetricsLog(folder.metrics_path)
    for iteration in (1, 2):
        log.add({"iteration": iteration})
        folder.publish()
        assert uploaded(store) == ["metrics.jsonl"]
    folder.write_config({"ipc": 2})  # of the same size
    folder.condensed_path.write_bytes(b"set")
    folder.publish()
    assert uploaded(store) == ["config.yaml", "condensed.parquet"]
    folder.publish()
    assert uploaded(store) == []
    assert names(uri) == ["condensed.parquet", "config.yaml", "metrics.jsonl"]
    assert (Location.at(uri) / "metrics.jsonl").read_bytes().count(b"\n") == 2
    assert (Location.at(uri) / "config.yaml").read_bytes() == b"ipc: 2\n"
    assert folder.path.is_dir()


def test_what_tensorboard_shows_is_uploaded_before_the_log_and_comes_back(uri, store):
    with RunFolder.create(uri, overwrite=False) as folder:
        write_run(folder)
        folder.board_path.mkdir()
        for number in (1, 2):
            (folder.board_path / f"events.{number}").write_text(f"{number}")
        store.proxy.forget()
        folder.publish()
    *_, one, two, log, summary = uploaded(store)
    assert (one, two, log, summary) == ("events.1", "events.2", "metrics.jsonl", "summary.json")
    with RunFolder.open(uri) as again:
        assert [path.read_text() for path in sorted(again.board_path.iterdir())] == ["1", "2"]
        store.proxy.forget()
        (again.board_path / "events.3").write_text("3")
        again.publish()
        assert uploaded(store) == ["events.3"]
    RunFolder.create(uri, overwrite=True)
    assert names(uri) == []


def test_what_was_uploaded_before_a_failure_is_not_uploaded_again(uri, store):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    store.proxy.fail(503, methods="POST", after=4)
    with pytest.raises(StorageError):
        folder.publish()
    store.proxy.heal()
    store.proxy.forget()
    folder.publish()
    assert uploaded(store) == ["gallery.png", "metrics.jsonl", "summary.json"]


# --- A run that is there ---


def test_an_unfinished_run_is_copied_to_a_new_working_folder_and_goes_on_from_there(uri, store):
    with RunFolder.create(uri, overwrite=False) as folder:
        folder.write_config({"ipc": 1})
        MetricsLog(folder.metrics_path).add({"iteration": 1})
        folder.publish()
    with RunFolder.open(uri) as again:
        again.lock()
        assert again.path != folder.path
        assert again.place == Location.at(uri)
        assert again.checkpoints == Location.at(f"{uri}/checkpoints")
        assert not again.is_complete
        assert sorted(path.name for path in again.path.iterdir()) == [
            "config.yaml",
            "metrics.jsonl",
        ]
        store.proxy.forget()
        again.publish()
        assert uploaded(store) == []
        MetricsLog(again.metrics_path).add({"iteration": 2})
        again.publish()
        assert uploaded(store) == ["metrics.jsonl"]
    assert (Location.at(uri) / "metrics.jsonl").read_bytes().count(b"\n") == 2


def test_a_complete_run_is_read_back_whole(uri):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    content = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    folder.hand_over()
    with RunFolder.open(uri) as again:
        assert again.is_complete
        assert {path.name: path.read_bytes() for path in again.path.iterdir()} == content


def test_a_working_folder_is_removed_at_the_end_unless_some_of_it_is_nowhere_else(uri, tmp_path):
    with RunFolder.create(uri, overwrite=False) as folder:
        folder.write_config({"ipc": 1})
    assert folder.path.exists()
    with folder:
        folder.publish()
    assert not folder.path.exists()
    with RunFolder.open(uri) as again:
        assert again.path.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [None, "notes.txt"])
def test_a_uri_without_a_run_is_refused(uri, tmp_path, name):
    if name is not None:
        (Location.at(uri) / name).write_text("mine")
    found = "none" if name is None else "one without config.yaml"
    with pytest.raises(UserError, match=f"expected the folder of a run at {uri}, found {found};"):
        RunFolder.open(uri)
    assert not list(tmp_path.iterdir())


def test_a_store_that_fails_while_a_run_is_read_leaves_no_working_folder(uri, store, tmp_path):
    with RunFolder.create(uri, overwrite=False) as folder:
        write_run(folder)
        folder.publish()
    store.proxy.fail(503, after=6)
    with pytest.raises(StorageError):
        RunFolder.open(uri)
    assert not list(tmp_path.iterdir())


def test_a_broken_config_is_named_with_its_uri(uri):
    (Location.at(uri) / "config.yaml").write_text("options: 3")
    with RunFolder.open(uri) as folder, pytest.raises(UserError, match=f" in {uri}/config.yaml, "):
        folder.read_config()


def test_a_local_run_is_published_where_it_is(tmp_path):
    folder = RunFolder.create(tmp_path / "run", overwrite=False)
    write_run(folder)
    before = sorted(tmp_path.rglob("*"))
    folder.publish()
    folder.hand_over()
    assert sorted(tmp_path.rglob("*")) == before
    assert folder.place == tmp_path / "run"


@pytest.mark.parametrize("name", ["config.yaml", "condensed.parquet"])
def test_a_uri_with_a_run_is_refused_and_kept(uri, name):
    (Location.at(uri) / name).write_text("old")
    with pytest.raises(
        UserError, match=rf"found a run in {uri}; go on with it by --resume auto, add"
    ):
        RunFolder.create(uri, overwrite=False)
    assert names(uri) == [name]


def test_overwriting_removes_the_run_and_no_other_object(uri):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    folder.hand_over()
    (Location.at(uri) / "notes.txt").write_text("mine")
    (folder.checkpoints / "10" / "group-0").write_text("old")
    RunFolder.create(uri, overwrite=True)
    assert names(uri) == ["notes.txt"]


def test_an_object_in_the_way_is_named(uri):
    Location.at(uri).write_text("")
    with pytest.raises(UserError, match=rf"expected a folder at {uri}, found a file"):
        RunFolder.check(uri, overwrite=True)


def test_a_run_that_cannot_be_uploaded_says_where_it_is(uri, store):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    store.proxy.fail(503)
    with pytest.raises(
        StorageError, match=rf"^the run is complete in {folder.path} only: .*gave up"
    ):
        folder.hand_over()
    store.proxy.fail(403)
    with pytest.raises(
        StorageError, match=rf"^the run is complete in {folder.path} only: no access"
    ):
        folder.hand_over()
    assert folder.summary_path.exists()
    store.proxy.heal()
    assert names(uri) == []


def test_an_upload_that_fails_half_way_leaves_no_summary(uri, store):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    store.proxy.fail(503, methods="POST", after=4)
    with pytest.raises(StorageError):
        folder.hand_over()
    store.proxy.heal()
    assert names(uri) == ["condensed.parquet", "config.yaml"]


def test_a_missing_bucket_is_found_out_at_the_start(uri):
    folder = RunFolder.create("s3://no-such-bucket/run", overwrite=False)
    with pytest.raises(DataError, match=r"found none: check its name"):
        folder.start({})
    assert not folder.path.exists()
