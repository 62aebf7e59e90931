"""Whatever a process was doing when it ended, the last commit is whole and the next one cleans."""

import contextlib
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import StorageError
from idm_ray.local_disk import LocalDisk
from idm_ray.storage import Location
from tests.checkpoints.making import (
    bits,
    make_run,
    names_in,
    names_of,
    publish_run,
    read_run,
    write_run,
)
from tests.data.small_disk import on_a_small_disk

ROOT = Path(__file__).parents[2]


class Stopped(BaseException):
    """What ends a process, here so that the test goes on."""


class DiskThatStops(LocalDisk):
    """Ends the process before one of the steps of writing and removing."""

    def __init__(self, steps):
        object.__setattr__(self, "_steps", iter(range(steps)))

    def _step(self):
        if next(self._steps, None) is None:
            raise Stopped

    @contextlib.contextmanager
    def atomic_write(self, path):
        self._step()
        with LocalDisk().atomic_write(path) as file:
            yield file
            self._step()  # written, but not under its name
        self._step()

    def delete(self, path):
        self._step()
        LocalDisk().delete(path)


def assert_sound(folder, least):
    """Every commit there is can be read, the newest is not older than `least`; returns it."""
    commits = folder.commits()
    assert all(isinstance(commit, Commit) for commit in commits)
    assert commits[0].number >= least
    for commit in commits[:2]:
        assert bits(read_run(folder, commit)) == bits(make_run(commit.number))
    return commits[0]


def test_a_stop_at_any_step_leaves_the_last_commit_whole(tmp_path):
    for steps in count():
        folder = CheckpointFolder(Location.at(tmp_path / str(steps)))
        for number in (1, 2):
            publish_run(folder, number)
        stopping = CheckpointFolder(Location(DiskThatStops(steps), folder.place.path))
        try:
            publish_run(stopping, 3)
            break
        except Stopped:
            newest = assert_sound(folder, least=2)
            assert newest.number == (2 if steps < 17 else 3), steps  # five files and the marker
            following = publish_run(folder, newest.number + 1)
            assert names_in(folder) == names_of(newest, following)
    assert steps == 23  # and the older marker with its four files


def test_a_stop_while_all_is_removed_leaves_no_commit_with_missing_files(tmp_path):
    for steps in count():
        folder = CheckpointFolder(Location.at(tmp_path / str(steps)))
        for number in (1, 2):
            publish_run(folder, number)
        try:
            CheckpointFolder(Location(DiskThatStops(steps), folder.place.path)).remove()
            break
        except Stopped:
            for commit in folder.commits():
                assert bits(read_run(folder, commit)) == bits(make_run(commit.number))
            folder.remove()
            assert not folder.place.exists()
    assert steps == 11


ENDS_WHILE_IT_WRITES = """
import os, sys
from idm_ray.storage import Location
writes = [(Location.at(sys.argv[1]) / name).atomic_write() for name in sys.argv[2:]]
for write in writes:
    file = write.__enter__()
    file.write(b"half")
    file.flush()
os._exit(9)
"""


def test_what_a_dead_process_was_writing_is_removed_by_the_next_commit(tmp_path):
    folder = CheckpointFolder(Location.at(tmp_path))
    first = publish_run(folder, 1)
    names = ["commit-00000002.json", "group-0000-00000020.safetensors", "notes.txt"]
    command = [sys.executable, "-c", ENDS_WHILE_IT_WRITES, str(tmp_path), *names]
    assert subprocess.run(command, check=False).returncode == 9
    assert sorted(path.name[1:-13] for path in tmp_path.glob(".*.tmp")) == names
    assert folder.commits() == [first]
    publish_run(folder, 2)
    assert [path.name[1:-13] for path in tmp_path.glob(".*.tmp")] == ["notes.txt"]


COMMITS_FOR_EVER = """
import itertools, sys
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.storage import Location
from tests.checkpoints.making import publish_run
folder = CheckpointFolder(Location.at(sys.argv[1]))
for number in itertools.count(int(sys.argv[2])):
    publish_run(folder, number)
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_committed(tmp_path):
    folder = CheckpointFolder(Location.at(tmp_path / "checkpoints"))
    rng = np.random.default_rng(0)
    first = 1
    for _ in range(3):
        command = [sys.executable, "-c", COMMITS_FOR_EVER, str(folder.place), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            for _ in range(rng.integers(1, 10)):
                told = int(process.stdout.readline())
            process.kill()
        first = assert_sound(folder, least=told).number + 1
    commits = [publish_run(folder, number) for number in (first, first + 1)]
    assert names_in(folder) == names_of(*commits)
    assert not list((tmp_path / "checkpoints").glob(".*"))


ON_A_FULL_DISK = """
import errno, os, sys
import numpy as np
from idm_ray.algorithm.state import GroupState, QueueState
from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.storage import Location

folder = CheckpointFolder(Location.at(sys.argv[1]))

def states(iteration, pixels):
    images = np.full((1, 1, 1, 1, pixels), iteration, np.float32)
    return {g: GroupState(iteration=iteration, images=images, velocity=images) for g in range(2)}

def commit(number, pixels):
    groups = folder.write_groups(states(number, pixels))
    made = Commit(
        number=number, groups=tuple(groups.values()), models=(), pretrained=(), evaluated=(),
        queue=QueueState(iteration=number, next_id=0, models=()), seconds=0.0, totals={},
    )
    assert folder.publish(made) == ""
    return made

first = commit(1, 10_000)
try:
    commit(2, 75_000)  # one of its groups finds room
except OSError as error:
    print(errno.errorcode[error.errno], sorted(os.listdir(sys.argv[1])))
print(folder.commits() == [first], folder.read_group(first.groups[1]).images.mean())
folder.return_to(first)
print(sorted(os.listdir(sys.argv[1])))
second = commit(2, 10_000)
print(folder.commits() == [second, first])
"""


def test_a_full_disk_costs_the_commit_that_finds_it_full_and_no_other(tmp_path):
    first = ["commit-00000001.json", *(f"group-000{g}-00000001.safetensors" for g in range(2))]
    lines = on_a_small_disk(tmp_path, ON_A_FULL_DISK).splitlines()
    assert lines == [
        f"ENOSPC {sorted([*first, 'group-0000-00000002.safetensors'])}",
        "True 1.0",
        str(first),
        "True",
    ]


# --- An object store that fails ---


@pytest.fixture
def remote(store):
    return CheckpointFolder(Location.at(store.bucket) / "run" / "checkpoints")


def test_a_store_that_fails_leaves_the_last_commit_whole(remote, store):
    first = publish_run(remote, 1)
    for uploads in (0, 2, 5):
        store.proxy.fail(503, methods="PUT POST", after=2 * uploads)
        with pytest.raises(StorageError):
            remote.publish(write_run(remote, make_run(2), 2))
        store.proxy.heal()
        assert remote.commits() == [first]
        assert bits(read_run(remote, first)) == bits(make_run(1))
    remote.return_to(first)
    assert names_in(remote) == names_of(first)
    second = publish_run(remote, 2)
    assert remote.commits() == [second, first]


def test_the_marker_is_uploaded_last(remote, store):
    commit = write_run(remote, make_run(1), 1)
    store.proxy.forget()
    remote.publish(commit)
    paths = [path for method, path in store.proxy.requests if method in ("PUT", "POST")]
    assert paths
    assert all("commit-00000001.json" in path for path in paths)


def test_a_store_that_removes_nothing_is_told_and_the_commit_stands(remote, store):
    commits = [publish_run(remote, number) for number in (1, 2)]
    third = write_run(remote, make_run(3), 3)
    store.proxy.fail(503, methods="DELETE")
    assert "gave up after 3 tries" in remote.publish(third)
    store.proxy.heal()
    assert remote.commits() == [third, commits[1], commits[0]]
    fourth = publish_run(remote, 4)
    assert names_in(remote) == names_of(third, fourth)


def test_a_store_that_fails_is_no_damage(remote, store):
    commit = publish_run(remote, 1)
    store.proxy.fail(503, methods="GET HEAD")
    with pytest.raises(StorageError):
        remote.commits()
    with pytest.raises(StorageError):
        remote.read_model(commit.models[0])
