import json
import tempfile

import pytest

from idm_ray.errors import DataError, StorageError, UserError
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
    folder.log({"iteration": 1})
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


def test_publishing_uploads_what_is_there_and_again_what_has_changed(uri):
    folder = RunFolder.create(uri, overwrite=False)
    folder.write_config({"ipc": 1})
    folder.publish()
    assert names(uri) == ["config.yaml"]
    folder.log({"iteration": 1})
    folder.publish()
    folder.log({"iteration": 2})
    folder.publish()
    assert names(uri) == ["config.yaml", "metrics.jsonl"]
    assert (Location.at(uri) / "metrics.jsonl").read_bytes().count(b"\n") == 2
    assert folder.path.is_dir()


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
    with pytest.raises(UserError, match=rf"found a run in {uri}; add --overwrite or choose"):
        RunFolder.create(uri, overwrite=False)
    assert names(uri) == [name]


def test_overwriting_removes_the_run_and_no_other_object(uri):
    folder = RunFolder.create(uri, overwrite=False)
    write_run(folder)
    folder.hand_over()
    (Location.at(uri) / "notes.txt").write_text("mine")
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
