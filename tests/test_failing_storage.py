"""Runs whose storage fails for a while, or for good: nothing that was written is lost."""

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import StorageError
from idm_ray.progress import Announcement, Committed, Progress
from idm_ray.run import resume
from idm_ray.storage import Location
from tests.data.small_disk import on_a_small_disk
from tests.interrupting import INTERVAL, LOCAL, RAY, ROOT, SETTINGS, Started, reports, results
from tests.making_runs import as_words, run


def digest(found):
    """Results in a few letters, which are the same wherever Python works them out."""
    pixels, accuracies = found
    return hashlib.sha256(pixels + json.dumps(accuracies).encode()).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return digest(results(run(tmp_path_factory.mktemp("undisturbed") / "run", **SETTINGS).folder))


@pytest.fixture
def at_once(monkeypatch):
    """What failed is tried again without waiting."""
    monkeypatch.setattr("idm_ray.checkpoints.saving.RETRY_S", 0.0)


# --- A disk ---

SIZE = "24m"

# How a disk fails, and how it works again: all in a process of its own that sees the disk.
OUTAGES = """
import errno, json, subprocess, sys
from contextlib import suppress
from pathlib import Path

disk = Path(sys.argv[1])

class Full:
    def __init__(self, left):
        self.left = left

    def begin(self):
        with open(disk / "ballast", "wb", buffering=0) as file:
            with suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            file.truncate(max(0, file.tell() - self.left))

    def end(self):
        (disk / "ballast").unlink()

class ReadOnly:
    def begin(self):
        subprocess.run(["mount", "--bind", disk, disk], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", disk], check=True)

    def end(self):
        subprocess.run(["umount", disk], check=True)

outage = {"full": Full(0), "nearly full": Full(2 << 20), "read-only": ReadOnly()}[sys.argv[2]]
"""

FOR_A_WHILE = (
    OUTAGES
    + """
from idm_ray.checkpoints import saving
from idm_ray.progress import Announcement, Progress
from tests.interrupting import SETTINGS, reports, results
from tests.making_runs import run
from tests.test_failing_storage import digest

saving.RETRY_S = 0.0
warnings = []

def listener(event):
    if isinstance(event, Announcement) and event.warning:
        warnings.append(event.text.replace(str(disk), "DISK"))
    if isinstance(event, Progress) and event.iteration == 7:
        outage.begin()
    if isinstance(event, Progress) and event.iteration == 30:
        outage.end()

run(disk, listener=listener, **SETTINGS)
iterations = [line["iteration"] for line in reports(disk) if "waiting" in line]
print(json.dumps([digest(results(disk)), warnings, iterations == list(range(1, 41))]))
"""
)

REASONS = {
    "full": "No space left on device",
    "nearly full": "No space left on device",
    "read-only": "Read-only file system",
}


@pytest.mark.parametrize("how", REASONS)
def test_a_run_goes_on_while_its_disk_fails(tmp_path, undisturbed, how):
    found, warnings, is_complete = json.loads(
        on_a_small_disk(tmp_path, FOR_A_WHILE, how, size=SIZE)
    )
    assert found == undisturbed
    assert is_complete
    log = [text for text in warnings if "metrics.jsonl" in text]
    checkpoints = [text for text in warnings if "metrics.jsonl" not in text]
    failed, works = checkpoints
    assert failed.startswith("a checkpoint could not be written ([Errno ")
    assert REASONS[how] in failed
    assert failed.endswith(
        f"; the last one, at iteration {INTERVAL}, stands; it is tried again every 0 s"
    )
    assert re.fullmatch(r"checkpoints can be written again; the newest is at iteration 3\d", works)
    # A nearly full disk has room for lines.
    assert (
        log == []
        if how == "nearly full"
        else [
            f"cannot write to DISK/metrics.jsonl ({REASONS[how]}): its lines are kept, and tried "
            "again with the next",
            "DISK/metrics.jsonl can be written to again and is complete",
        ]
    )


FOR_GOOD = (
    OUTAGES
    + """
from tests.interrupting import commit, condensing, iteration, results
from tests.making_runs import command
from tests.test_failing_storage import digest

with condensing(disk, **json.loads(sys.argv[3])) as started:
    assert started.until(lambda: iteration(disk) >= 7 and commit(disk)), started.err
    outage.begin()
    ended = started.end()
told = {"status": ended.status, "err": ended.err, "newest": commit(disk).iteration}
refused = command("resume", disk, "--local") if sys.argv[2] == "read-only" else None
told["refused"] = refused and (refused.status, refused.err)
outage.end()
outcome = command("resume", disk, "--local")
assert outcome.status == 0, outcome.err
print(json.dumps({**told, "found": digest(results(disk))}))
"""
)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("full", LOCAL),
        ("read-only", LOCAL),
        pytest.param("full", RAY, marks=[pytest.mark.ray, pytest.mark.slow]),
    ],
)
def test_a_run_whose_disk_fails_for_good_ends_and_can_be_resumed(tmp_path, undisturbed, how, kind):
    told = json.loads(on_a_small_disk(tmp_path, FOR_GOOD, how, json.dumps(kind), size=SIZE))
    assert told["status"] == 1, told["err"]
    assert "Traceback" not in told["err"]
    *_, how_to_go_on, last = told["err"].splitlines()
    newest = told["newest"]
    assert newest >= INTERVAL
    assert how_to_go_on == (
        f"the run goes on from iteration {newest} with: idm-ray resume {tmp_path}"
    )
    file = "condensed.parquet" if how == "full" else ""
    remedy = "make room first" if how == "full" else "check the path and its permissions"
    assert re.fullmatch(
        rf"idm-ray: expected to read or write {tmp_path}/\S*{file}\S*, found: {REASONS[how]}; "
        f"{remedy}",
        last,
    )
    assert told["err"].count("a checkpoint could not be written") == 1
    if told["refused"]:
        assert told["refused"] == [
            2,
            f"idm-ray: expected a run to write to in {tmp_path}, found: Read-only file system; "
            "make the folder writable, or copy the run elsewhere\n",
        ]
    assert told["found"] == undisturbed


# --- An object store ---

COMPLETE = [
    *("condensed.parquet", "config.yaml", "curves.png"),
    *("gallery.png", "metrics.jsonl", "summary.json"),
]


@pytest.fixture
def working(tmp_path, monkeypatch):
    """The folder of working folders."""
    (tmp_path / "working").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "working"))
    return tmp_path / "working"


@pytest.fixture
def place(store):
    return Location.at(f"{store.bucket}/runs/first")


def names(place):
    """Files of a run; of TensorBoard's there are as many as it was begun or resumed."""
    return [entry.path for entry in place.files() if not entry.path.startswith("tb/")]


def fetched(place, tmp_path):
    """A copy of a run on a local disk."""
    folder = tmp_path / "fetched"
    folder.mkdir()
    for name in COMPLETE:
        (folder / name).write_bytes((place / name).read_bytes())
    return folder


def iterations(place):
    lines = map(json.loads, (place / "metrics.jsonl").read_text().splitlines())
    return [line["iteration"] for line in lines if "waiting" in line]


class Outage:
    """Has a store fail from the second checkpoint to an iteration; keeps what is said."""

    def __init__(self, store, last=None):
        self._store, self._last = store, last
        self.before = 0
        """Iteration of the checkpoint before it."""
        self.warnings = []
        self.said = ""

    def __call__(self, event):
        if isinstance(event, Announcement):
            self.said = event.text
            self.warnings += [event.text] * event.warning
        if isinstance(event, Committed) and event.number == 1:
            self.before = event.iteration
            self._store.proxy.fail(500)
        if isinstance(event, Progress) and event.iteration == self._last:
            self._store.proxy.heal()


def test_a_run_goes_on_while_its_store_fails(place, store, working, tmp_path, undisturbed, at_once):
    outage = Outage(store, last=30)
    run(str(place), listener=outage, **SETTINGS)
    failed, works = outage.warnings
    assert failed.startswith(f"a checkpoint could not be written ({place}/checkpoints/")
    assert failed.endswith(
        f"the last one, at iteration {outage.before}, stands; it is tried again every 0 s"
    )
    assert works.startswith("checkpoints can be written again; the newest is at iteration ")
    assert names(place) == COMPLETE
    assert not list(working.iterdir())
    folder = fetched(place, tmp_path)
    assert digest(results(folder)) == undisturbed
    assert iterations(folder) == list(range(1, 41))


def test_a_run_whose_store_fails_for_good_ends_and_can_be_resumed(
    place, store, working, tmp_path, undisturbed
):
    outage = Outage(store)
    with pytest.raises(StorageError, match=r"^the run is complete in \S+ only: s3://"):
        run(str(place), listener=outage, **SETTINGS)
    assert outage.said == (
        f"the run goes on from iteration {outage.before} with: idm-ray resume {place}"
    )
    store.proxy.heal()
    assert [re.split(r" \(|: ", text)[0] for text in outage.warnings] == [
        "a checkpoint could not be written",
        "the upload will be tried again",
    ]
    newest = CheckpointFolder(place / "checkpoints").commits()[0]
    assert newest.iteration == outage.before
    resume(str(place))
    folder = fetched(place, tmp_path)
    assert digest(results(folder)) == undisturbed
    assert iterations(folder) == list(range(1, 41))


def test_a_remote_run_that_is_interrupted_is_remote_with_all_that_is_finished(
    place, working, tmp_path, undisturbed
):
    def stop(event):
        if isinstance(event, Progress) and event.iteration == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(str(place), listener=stop, **SETTINGS)
    assert not list(working.iterdir())
    assert CheckpointFolder(place / "checkpoints").commits()[0].iteration == 7
    resume(str(place))
    assert not list(working.iterdir())
    assert names(place) == COMPLETE
    folder = fetched(place, tmp_path)
    assert digest(results(folder)) == undisturbed
    assert iterations(folder) == list(range(1, 41))


@contextlib.contextmanager
def started_remotely(place, tmp_path, monkeypatch, **options):
    """A process of a remote run that has made its second checkpoint."""
    (tmp_path / "working").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "working"))

    def is_far_enough():
        lines = (line for w in (tmp_path / "working").glob("*-run-*") for line in reports(w))
        return any(line.get("checkpoint") == 1 for line in lines)

    with Started(tmp_path / "run", "condense", "--out", place, *as_words(**options)) as started:
        assert started.until(is_far_enough), started.err
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LOCAL, pytest.param(RAY, marks=pytest.mark.ray)], ids=str)
def test_sigterm_ends_a_run_in_time_while_its_store_fails(
    place, store, tmp_path, monkeypatch, undisturbed, kind
):
    with started_remotely(place, tmp_path, monkeypatch, **SETTINGS, **kind) as started:
        store.proxy.fail(500)
        ended = started.tell(signal.SIGTERM)
    assert ended.status == 143, ended.err
    assert ended.seconds < 10
    store.proxy.heal()
    newest = CheckpointFolder(place / "checkpoints").commits()[0]
    how_to_go_on = f"the run goes on from iteration {newest.iteration} with: idm-ray resume {place}"
    assert how_to_go_on in ended.err.splitlines()
    resume(str(place), local=True)
    assert digest(results(fetched(place, tmp_path))) == undisturbed


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray_goes_on_while_its_store_fails_for_half_a_minute(
    place, store, tmp_path, monkeypatch
):
    options = {**SETTINGS, "iterations": 800, "checkpoint_interval": 20, "eval_interval": 0}
    expected = results(run(tmp_path / "undisturbed", **options).folder)
    with started_remotely(place, tmp_path, monkeypatch, **options, **RAY) as started:
        store.proxy.fail(500)
        with pytest.raises(subprocess.TimeoutExpired):
            started.process.wait(timeout=30)
        store.proxy.heal()
        assert started.end().status == 0, started.err
    warnings = [line for line in started.err.splitlines() if line.startswith("warning: ")]
    failed, works = warnings
    assert failed.startswith(f"warning: a checkpoint could not be written ({place}/checkpoints/")
    assert works.startswith("warning: checkpoints can be written again; the newest is at ")
    assert names(place) == COMPLETE
    assert results(fetched(place, tmp_path)) == expected
    assert not list((tmp_path / "working").glob("idm_ray-run-*"))


DIES = """
import os, signal, sys
from idm_ray.progress import Committed
from tests.interrupting import SETTINGS
from tests.making_runs import run

def die(event):
    if isinstance(event, Committed) and event.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)

run(sys.argv[1], listener=die, **SETTINGS)
"""


def test_the_log_of_a_remote_run_is_never_older_than_its_checkpoint(
    place, working, tmp_path, undisturbed
):
    dead = subprocess.run([sys.executable, "-c", DIES, str(place)], cwd=ROOT, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert CheckpointFolder(place / "checkpoints").commits()[0].iteration >= 3 * INTERVAL
    resume(str(place))
    folder = fetched(place, tmp_path)
    assert digest(results(folder)) == undisturbed
    assert iterations(folder) == list(range(1, 41))
