"""Whole runs whose folder is in a bucket."""

import json
import re
import tempfile

import numpy as np
import pytest

import idm_ray
from idm_ray.errors import StorageError
from idm_ray.progress import Announcement, Committed, Progress
from idm_ray.results.run_folder import RunFolder
from idm_ray.storage import Location
from tests.making_runs import TINY_WORDS, as_words, command, pixels_of, run


@pytest.fixture
def uri(store, tmp_path, monkeypatch):
    (tmp_path / "working").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "working"))
    return f"{store.bucket}/runs/first"


def names(uri):
    return [entry.path for entry in Location.at(uri).files()]


COMPLETE = [
    *("condensed.parquet", "config.yaml", "curves.png"),
    *("gallery.png", "metrics.jsonl", "summary.json", "tb/events.out.tfevents.0001"),
]


def test_a_command_with_a_uri_gives_the_same_images_and_they_can_be_evaluated(uri, tmp_path):
    outcome = command("condense", "--out", uri, *TINY_WORDS)
    assert outcome.status == 0, outcome.err
    lines = outcome.err.splitlines()
    assert f"writing to {uri}" in lines
    assert any(line.startswith("until it is uploaded, the run is in ") for line in lines)
    assert lines[-1] == f"condensed set and gallery in {uri}"
    assert names(uri) == COMPLETE
    assert not list((tmp_path / "working").iterdir())
    images = idm_ray.load(f"{uri}/condensed.parquet").images.numpy()
    assert np.array_equal(images, pixels_of(tmp_path / "local"))
    words = as_words(data="digits", local=True, device="cpu", threads=1, repeats=1, eval_epochs=1)
    outcome = command("evaluate", f"{uri}/condensed.parquet", *words)
    assert outcome.status == 0, outcome.err
    assert "│ convnet-2 │" in outcome.out


def test_a_second_run_to_the_same_uri_is_refused_unless_it_overwrites(uri):
    assert command("condense", "--out", uri, *TINY_WORDS).status == 0
    refused = command("condense", "--out", uri, *TINY_WORDS)
    assert refused.status == 2
    assert refused.err == (
        f"idm-ray: expected a new folder, found a run in {uri}; go on with it by --resume auto, "
        "add --overwrite, or choose another --out\n"
    )
    words = (*TINY_WORDS, "--iterations", "2", "--overwrite")
    assert command("condense", "--out", uri, *words).status == 0
    assert json.loads((Location.at(uri) / "summary.json").read_bytes())["iterations"] == 2
    lines = (Location.at(uri) / "metrics.jsonl").read_bytes().splitlines()
    assert [b"waiting" in line for line in lines] == [True, True, False]  # and the checkpoint


def test_a_store_that_fails_ends_the_command_with_status_1_and_a_wrong_bucket_with_2(
    uri, store, tmp_path
):
    store.proxy.fail(503)
    failed = command("condense", "--out", uri, *TINY_WORDS)
    assert failed.status == 1
    assert re.fullmatch(
        rf"idm-ray: {uri}: gave up after 3 tries \(.+\); check the network and the store, and run "
        r"it again\n",
        failed.err,
    )
    store.proxy.heal()
    wrong = command("condense", "--out", "s3://no-such-bucket/x", *TINY_WORDS)
    assert wrong.status == 2
    assert wrong.err.splitlines()[-1].startswith(
        "idm-ray: expected a file or folder at s3://no-such-bucket/x/config.yaml, found none: check"
    )
    assert "Traceback" not in failed.err + wrong.err
    assert not list((tmp_path / "working").iterdir())


def test_a_store_that_fails_at_the_end_costs_only_the_upload(uri, store, tmp_path):
    def fail(event):
        if isinstance(event, Progress) and event.iteration == 3:
            store.proxy.fail(503)

    with pytest.raises(
        StorageError, match=r"the run is complete in \S+ only: s3://.* gave up"
    ) as e:
        run(uri, listener=fail)
    (working,) = (tmp_path / "working").iterdir()
    assert str(working) in str(e.value)
    files = (path for path in working.rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(working)) for path in files) == COMPLETE
    store.proxy.heal()
    assert names(uri) == ["config.yaml"]


def test_an_upload_that_fails_before_the_evaluation_is_made_up_for_at_the_end(uri, store):
    warnings = []

    def fail_once(event):
        if isinstance(event, Committed):
            store.proxy.fail(503)
        elif isinstance(event, Announcement) and event.warning:
            warnings.append(event.text)
            store.proxy.heal()

    finished = run(uri, listener=fail_once, repeats=1)
    assert finished.folder == Location.at(uri)
    assert names(uri) == COMPLETE
    assert len(warnings) == 1
    again = f"the upload will be tried again: {uri}/condensed.parquet: "
    assert warnings[0].startswith(again)


def test_a_run_that_is_read_back_from_its_uri_is_the_one_that_was_written(uri, tmp_path):
    finished = run(uri)
    with RunFolder.open(uri) as folder:
        assert folder.is_complete
        assert json.loads(folder.summary_path.read_text()) == finished.summary
        assert folder.read_config()["options"]["iterations"] == 3
    assert not list((tmp_path / "working").iterdir())
