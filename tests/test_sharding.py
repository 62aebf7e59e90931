"""Shards as people use them: written by a command, condensed from, and the same images for it."""

import os
import subprocess
import sys

import pytest

from idm_ray.data.known import KNOWN
from idm_ray.errors import DataError
from idm_ray.execution import Started
from idm_ray.progress import Advanced, Announcement
from idm_ray.sharding import write_shards
from tests.data.making import bytes_of, opened
from tests.making_runs import command, metrics, pixels, run, write_pictures

CLASSES = {"ant": 14, "bee": 9, "cat": 11}
SMALL = {"limit_per_class": None, "classes_per_group": 2, "batch_real": 6, "batch_train": 12}
# Of 28 training images of 192 bytes: a class and a half.
LIMIT = {"cache_limit": "2500B"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("source") / "zoo", CLASSES)


@pytest.fixture(scope="module")
def shards(folders):
    write_shards(folders, out=folders.parent / "shards", local=True, shard_mb=0.01)
    return folders.parent / "shards"


@pytest.fixture(scope="module")
def from_folders(folders):
    return pixels(run(folders.parent / "run", data=folders, **SMALL).folder)


# --- Writing ---


def test_whoever_listens_is_told_how_far_it_is(folders, tmp_path):
    events = []
    manifest = write_shards(folders, out=tmp_path / "shards", local=True, listener=events.append)
    assert events[0] == Announcement(f"zoo: 3 classes to {tmp_path / 'shards'}")
    assert events[1] == Started("write", 6)
    counts = [*(record.images for record in (*manifest.train, *manifest.test))]
    assert events[2:] == [Advanced(done, f"{sum(counts[:done])} images") for done in range(1, 7)]
    assert sum(counts) == sum(CLASSES.values())


def test_the_command_writes_what_the_function_does_and_tells_counts(folders, shards, tmp_path):
    told = command("shards", folders, "--out", tmp_path / "shards", "--shard-mb", "0.01", "--local")
    assert (told.status, told.err.count("\n") < 10) == (0, True)
    assert bytes_of(tmp_path / "shards") == bytes_of(shards)
    for name in CLASSES:
        assert name in told.out
    again = command("shards", folders, "--out", tmp_path / "shards", "--local")
    assert (again.status, len(again.err.strip().splitlines())) == (2, 1)
    assert "add --overwrite" in again.err


def test_known_data_stay_known(tmp_path):
    write_shards("digits", out=tmp_path / "shards", local=True, limit_per_class=2)
    info = opened(tmp_path / "shards", tmp_path / "cache").info
    assert (info.name, info.known_as, info.flips) == ("digits", "digits", KNOWN["digits"].flips)


# --- Condensing ---


@pytest.mark.parametrize("kept", [{}, {"cache": "none"}, LIMIT], ids=["auto", "none", "limit"])
def test_condensing_from_shards_gives_the_images_of_condensing_from_folders_bit_for_bit(
    shards, from_folders, tmp_path, kept
):
    cache = {"cache_dir": str(tmp_path / "cache"), **kept}
    done = run(tmp_path / "run", data=shards, **SMALL, **cache)
    assert pixels(done.folder).tobytes() == from_folders.tobytes()


def test_a_pretrained_start_is_the_same_from_shards(folders, shards, tmp_path):
    options = {**SMALL, "pretrained": 1, "pretrain_steps": 2, "cache_dir": str(tmp_path / "cache")}
    found = [
        pixels(run(tmp_path / name, data=data, **options).folder)
        for name, data in {"folders": folders, "shards": shards}.items()
    ]
    assert found[0].tobytes() == found[1].tobytes()


def test_what_images_took_is_in_the_metrics(shards, tmp_path):
    done = run(tmp_path / "run", data=shards, cache="none", **SMALL)
    lines = [line for line in metrics(done.folder) if "matching_loss" in line]
    for kind in ("matching", "training"):
        assert all(0 < line[f"{kind}_data_waiting"] <= 1 for line in lines)
        # Each iteration, 6 images of 3 classes are matched, and 2 networks see 2 batches of 12.
        # What is read ahead counts where it is read, so that a line may have none.
        decoded, read = (
            sum(line.get(f"{kind}_{what}", 0) for line in lines)
            for what in ("images_decoded", "bytes_read")
        )
        assert decoded >= {"matching": 3 * 18, "training": 3 * 48}[kind]
        assert read > 100 * decoded
    assert done.summary["evaluation"] is None


def test_without_shards_the_metrics_name_waiting_alone(folders, tmp_path):
    done = run(tmp_path / "run", data=folders, **SMALL)
    names = {name for line in metrics(done.folder) for name in line}
    assert {"matching_data_waiting", "training_data_waiting"} <= names
    assert not {name for name in names if name.endswith(("_decoded", "_read"))}


def test_a_cache_that_takes_no_more_is_told_once(shards, tmp_path):
    events = []
    options = {**SMALL, **LIMIT, "cache_dir": str(tmp_path / "cache"), "iterations": 6}
    run(tmp_path / "run", data=shards, listener=events.append, **options)
    told = [e.text for e in events if isinstance(e, Announcement) and e.warning]
    assert [text for text in told if "takes no more" in text] == told[-1:]
    assert f"the limit of {tmp_path / 'cache'}" in told[-1]


def test_the_cache_of_a_run_with_evaluation_is_complete_and_the_next_run_reads_no_shard(
    shards, from_folders, tmp_path
):
    options = {**SMALL, "cache_dir": str(tmp_path / "cache")}
    # The filler of a short run may be stopped before its end; networks on whole data are not.
    run(tmp_path / "one", data=shards, **options, repeats=1, whole_epochs=1)
    assert len(list((tmp_path / "cache").glob("*/*/complete"))) == 1
    done = run(tmp_path / "two", data=shards, **options)
    assert pixels(done.folder).tobytes() == from_folders.tobytes()
    names = {name for line in metrics(done.folder) for name in line}
    assert not {name for name in names if name.endswith("_decoded")}


def test_other_shards_under_the_same_path_are_not_the_run_s_data(folders, tmp_path):
    write_shards(folders, out=tmp_path / "shards", local=True)
    before = opened(tmp_path / "shards", tmp_path / "cache").info
    write_shards(folders, out=tmp_path / "shards", local=True, overwrite=True, limit_per_class=5)
    assert opened(tmp_path / "shards", tmp_path / "cache").info.fingerprint != before.fingerprint


def test_a_shard_that_changes_ends_a_run_with_one_line(folders, tmp_path):
    write_shards(folders, out=tmp_path / "shards", local=True)
    for path in (tmp_path / "shards" / "train").iterdir():
        content = path.read_bytes()
        path.write_bytes(content.replace(b"IDAT", b"IDAX"))
    with pytest.raises(DataError, match=r"as it was when it was indexed"):
        run(tmp_path / "run", data=tmp_path / "shards", **SMALL, cache="none")
    words = ["--limit-per-class", "5", "--iterations", "2", "--repeats", "0", "--local"]
    told = command("condense", "--data", tmp_path / "shards", "--out", tmp_path / "other", *words)
    assert told.status == 2
    assert told.err.strip().splitlines()[-1].startswith("idm-ray: expected")


@pytest.mark.slow
def test_the_command_needs_no_ray_where_it_writes_in_one_process(folders, tmp_path):
    code = (
        "import sys; from idm_ray.sharding import write_shards;"
        "write_shards(sys.argv[1], out=sys.argv[2], local=True); print('ray' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(folders), str(tmp_path / "shards")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "False\n"
