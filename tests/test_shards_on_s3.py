"""Shards in a bucket, read by a whole run through a real S3 server."""

import runpy
from pathlib import Path

import numpy as np
import pytest

import idm_ray
from idm_ray.errors import DataError
from idm_ray.pipeline import pipeline
from idm_ray.storage import Location
from tests.making_runs import as_words, command

SCRIPTS = Path(__file__).parents[1] / "pipelines"
REHEARSAL = as_words(
    smoke=True,
    local=True,
    device="cpu",
    threads=1,
    network="convnet-3",
    iterations=2,
    batch_real=4,
    batch_train=8,
    train_steps=2,
    repeats=0,
)


def rehearse(out, *words):
    script = runpy.run_path(str(SCRIPTS / "imagenet_subset.py"))["imagenet_subset"]
    return command(*REHEARSAL, "--out", out, *words, program=pipeline(script))


def pixels(place):
    return idm_ray.load(str(place)).images.numpy()


def test_a_rehearsal_in_a_bucket_gives_the_pixels_of_one_on_disk(store, tmp_path):
    here = rehearse(tmp_path / "run", "--cache-dir", tmp_path / "cache")
    assert here.status == 0, here.err
    run, shards = f"{store.bucket}/run", f"{store.bucket}/shards"
    there = rehearse(run, "--shards", shards, "--cache-dir", tmp_path / "other cache")
    assert there.status == 0, there.err
    assert np.array_equal(
        pixels(f"{run}/condensed.parquet"), pixels(tmp_path / "run" / "condensed.parquet")
    )
    for entry in Location.at(shards).files():
        on_disk = (tmp_path / "run" / "shards" / entry.path).read_bytes()
        assert (Location.at(shards) / entry.path).read_bytes() == on_disk


def test_a_store_that_fails_for_a_while_is_asked_again_and_one_that_goes_on_ends_in_one_line(
    store, tmp_path
):
    shards = f"{store.bucket}/shards"
    written = command("shards", "digits", "--local", "--limit-per-class", 2, "--out", shards)
    assert written.status == 0, written.err
    words = as_words(data=shards, local=True, iterations=1, repeats=0, cache="none", batch_real=2)
    store.proxy.fail(503, times=2)
    outcome = command("condense", *words, "--out", tmp_path / "first")
    assert outcome.status == 0, outcome.err
    store.proxy.fail(503)
    outcome = command("condense", *words, "--out", tmp_path / "second")
    assert (outcome.status, outcome.err.count("\n")) == (1, 1), outcome.err
    assert "gave up after 3 tries" in outcome.err
    assert not (tmp_path / "second").exists()


def test_a_writer_whose_store_fails_leaves_nothing_half_written_and_goes_on_later(store):
    shards = f"{store.bucket}/shards"
    words = ("shards", "digits", "--local", "--limit-per-class", 2, "--out", shards)
    store.proxy.fail(500, methods="PUT", after=12)
    failed = command(*words)
    assert (failed.status, "gave up after 3 tries" in failed.err) == (1, True), failed.err
    store.proxy.heal()
    assert "manifest.json" not in [entry.path for entry in Location.at(shards).files()]
    with pytest.raises(DataError, match="found one that is not finished"):
        idm_ray.condense(data=shards, local=True)
    assert command(*words).status == 0
    again = f"{store.bucket}/again"
    assert command(*words[:-1], again).status == 0
    for entry in Location.at(again).files():
        content = (Location.at(again) / entry.path).read_bytes()
        assert (Location.at(shards) / entry.path).read_bytes() == content
