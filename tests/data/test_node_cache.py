"""The cache that fills up: alone, shared, killed, restarted, and on disks that are too small."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from idm_ray.data import node_cache
from idm_ray.data.node_cache import NodeCache
from idm_ray.host import boot_id
from tests.data.small_disk import on_a_small_disk

# Nothing heavy is imported here: processes are started with this file.
COUNTS = (3, 2, 4)
SHAPE = (3, 5, 7)
FREE_SHARE = node_cache._FREE_SHARE  # as it is used: the tests' conftest sets it to nothing
CLASS_BYTES = [count * 105 for count in COUNTS]


def image(row):
    return np.random.default_rng(row).integers(0, 256, SHAPE, dtype=np.uint8)


def cache_in(folder, *, limit_bytes=10**6):
    return NodeCache(folder / "cache", COUNTS, SHAPE, limit_bytes=limit_bytes)


def fill(cache, rows=range(9)):
    for row in rows:
        cache.store(row, image(row))


def present(cache):
    return cache.present(np.arange(9)).tolist()


def is_right(cache):
    """Whether all that is said to be there is what was put there."""
    rows = np.flatnonzero(cache.present(np.arange(9)))
    return all((cache.read(rows)[n] == image(row)).all() for n, row in enumerate(rows))


def test_what_was_stored_is_there_and_nothing_else(tmp_path):
    cache = cache_in(tmp_path)
    assert present(cache) == [False] * 9
    fill(cache, [0, 4, 8])
    assert present(cache) == [True, False, False, False, True, False, False, False, True]
    assert is_right(cache)
    assert (cache.read(np.array([8, 0, 8])) == np.stack([image(8), image(0), image(8)])).all()


def test_what_is_read_is_a_copy(tmp_path):
    cache = cache_in(tmp_path)
    fill(cache)
    cache.read(np.array([3, 4]))[:] = 0
    cache.read(np.arange(9))[:] = 0
    assert is_right(cache)


def test_it_takes_no_disk_space_before_images_come(tmp_path):
    counts = (100, 100)
    cache = NodeCache(tmp_path / "cache", counts, (3, 100, 100), limit_bytes=10**8)
    pixels = cache.folder / "pixels"
    assert pixels.stat().st_size == 200 * 30_000
    assert pixels.stat().st_blocks == 0
    cache.store(150, np.ones((3, 100, 100), np.uint8))
    assert 3_000_000 <= 512 * pixels.stat().st_blocks < 3_100_000


def test_a_limit_is_kept_by_whole_classes(tmp_path):
    cache = cache_in(tmp_path, limit_bytes=CLASS_BYTES[0] + CLASS_BYTES[2])
    fill(cache, [0, 8])
    assert cache.full == ""
    fill(cache)
    assert present(cache) == [True] * 3 + [False] * 2 + [True] * 4
    assert cache.full == f"the limit of {cache.folder} is reached"
    assert is_right(cache)
    assert not cache.finish()


def test_a_limit_holds_for_all_who_share_it(tmp_path):
    one, other = (cache_in(tmp_path, limit_bytes=CLASS_BYTES[0] + 1) for _ in range(2))
    fill(one, [0])
    fill(other, [4, 1])
    assert other.full
    assert present(one) == present(other) == [True, True] + [False] * 7


def test_a_limit_of_nothing_keeps_nothing(tmp_path):
    cache = cache_in(tmp_path, limit_bytes=0)
    fill(cache)
    assert present(cache) == [False] * 9


def test_it_leaves_a_tenth_of_the_disk_free_unless_told_otherwise(tmp_path, monkeypatch):
    # Nobody can fill the disk of a machine for a test.
    usage = type(node_cache.shutil.disk_usage(tmp_path))
    monkeypatch.setattr(node_cache.shutil, "disk_usage", lambda folder: usage(1000, 700, 300))
    monkeypatch.setattr(node_cache, "_FREE_SHARE", FREE_SHARE)
    cache = NodeCache(tmp_path / "cache", (15, 21), (1, 2, 5), limit_bytes=None)
    cache.store(0, np.zeros((1, 2, 5), np.uint8))
    assert cache.full == ""
    cache.store(15, np.zeros((1, 2, 5), np.uint8))
    assert cache.full == f"the disk of {cache.folder} is nearly full"
    assert cache.present(np.array([0, 15])).tolist() == [True, False]


# --- Disks that are full ---

ON_A_SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np
from idm_ray.data.node_cache import NodeCache
cache = NodeCache(Path(sys.argv[1]), (2, 2, 2), (3, 256, 256), limit_bytes=10**9)
for row in range(6):
    cache.store(row, np.full((3, 256, 256), row + 1, np.uint8))
rows = np.flatnonzero(cache.present(np.arange(6)))
print(rows.tolist(), np.unique(cache.read(rows)).tolist(), cache.full)
"""


def test_a_full_disk_ends_nothing_but_the_filling(tmp_path):
    # Without the reservation, writing into the map would kill the process (SIGBUS).
    told = on_a_small_disk(tmp_path, ON_A_SMALL_DISK)
    assert told == f"[0, 1, 2, 3] [1, 2, 3, 4] the disk of {tmp_path / boot_id()} is full\n"


ON_A_FULL_DISK = """
import errno, sys
from pathlib import Path
from idm_ray.data.node_cache import NodeCache
with open(Path(sys.argv[1], "filler"), "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass
try:
    NodeCache(Path(sys.argv[1], "cache"), (2, 2), (3, 8, 8), limit_bytes=None)
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def test_where_there_is_no_room_at_all_none_can_be_made(tmp_path):
    assert on_a_small_disk(tmp_path, ON_A_FULL_DISK) == "ENOSPC\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_is_as_good_as_a_full_disk(tmp_path, monkeypatch, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    cache = cache_in(tmp_path)
    fill(cache)
    assert (cache.full, present(cache)) == (f"the disk of {cache.folder} is full", [False] * 9)


def test_a_disk_that_fails_is_an_error(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="Input/output error"):
        fill(cache_in(tmp_path))


# --- Other processes, and the next one ---


def store_all_and_tell(folder, rows, barrier, results):
    cache = cache_in(folder)
    barrier.wait()
    fill(cache, rows)
    barrier.wait()
    results.put((present(cache), is_right(cache)))


def die_while_storing(folder):
    cache = cache_in(folder)
    fill(cache, [0, 1])

    class Dying:
        """Pixels of which half are written when the process is killed."""

        def __array__(self, dtype=None, copy=None):
            cache._pixels[2, :1] = 99
            os.kill(os.getpid(), signal.SIGKILL)

    cache.store(2, Dying())


def started(target, *args):
    process = multiprocessing.get_context("spawn").Process(target=target, args=args)
    process.start()
    return process


def test_processes_that_share_it_see_what_each_of_them_stores(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    rows = ([8, 7, 2, 3, 0], [0, 1, 2, 4, 5, 6])
    processes = [started(store_all_and_tell, tmp_path, some, barrier, results) for some in rows]
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [([True] * 9, True)] * 2
    cache = cache_in(tmp_path)
    assert present(cache) == [True] * 9
    assert cache.finish()


def test_a_process_that_is_killed_while_storing_leaves_nothing_wrong(tmp_path):
    process = started(die_while_storing, tmp_path)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    cache = cache_in(tmp_path)
    assert present(cache) == [True, True] + [False] * 7
    assert is_right(cache)
    fill(cache)
    assert present(cache) == [True] * 9
    assert is_right(cache)


def restart(monkeypatch, start="another start"):
    """Have this process run at another start of the machine, or on another node."""
    monkeypatch.setattr(node_cache, "boot_id", lambda: start)


def test_after_a_restart_of_the_machine_an_incomplete_one_starts_again(tmp_path, monkeypatch):
    before = cache_in(tmp_path)
    fill(before, range(8))
    assert present(cache_in(tmp_path)) == [True] * 8 + [False]
    folder = before.folder
    del before
    # A page of marks may have reached the disk before the pages of its pixels.
    restart(monkeypatch)
    cache = cache_in(tmp_path)
    assert present(cache) == [False] * 9
    assert not folder.exists()
    fill(cache, [1])
    assert present(cache_in(tmp_path)) == [False, True] + [False] * 7


def test_nodes_that_share_a_folder_leave_each_other_s_alone_until_one_is_complete(
    tmp_path, monkeypatch
):
    one = cache_in(tmp_path)
    fill(one, range(8))
    restart(monkeypatch, "another node")
    other = cache_in(tmp_path)
    assert present(other) == [False] * 9
    fill(other, [3])
    assert present(one) == [True] * 8 + [False]
    fill(one)
    assert one.finish()
    assert not other.finish()
    restart(monkeypatch, "a third node")
    assert present(cache_in(tmp_path)) == [True] * 9


def test_after_a_restart_of_the_machine_a_complete_one_is_kept(tmp_path, monkeypatch):
    cache = cache_in(tmp_path)
    fill(cache, range(8))
    assert not cache.finish()
    fill(cache)
    assert cache.finish()
    assert cache.finish()
    restart(monkeypatch)
    cache = cache_in(tmp_path)
    assert present(cache) == [True] * 9
    assert is_right(cache)


@pytest.mark.parametrize("name", ["pixels", "present", "reserved"])
@pytest.mark.parametrize("is_complete", [True, False])
def test_files_that_were_cut_short_start_again(tmp_path, name, is_complete):
    cache = cache_in(tmp_path)
    fill(cache)
    if is_complete:
        cache.finish()
    with (cache.folder / name).open("r+b") as file:
        file.truncate(2)
    cache = cache_in(tmp_path)
    assert present(cache) == [False] * 9
    assert not cache.finish()
    fill(cache)
    assert is_right(cache)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        cache_in(tmp_path)


def test_its_folder_holds_these_files(tmp_path):
    cache = cache_in(tmp_path)
    fill(cache)
    cache.finish()
    names = {path.name for path in Path(cache.folder).iterdir()} - {"lock"}
    assert names == {"pixels", "present", "reserved", "in use", "complete"}
