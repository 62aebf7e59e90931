"""Batches that are loaded before they are asked for are the same batches."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from idm_ray.data import read_ahead
from idm_ray.data.read_ahead import ReadAhead
from idm_ray.errors import DataError

IMAGE_BYTES = 12


class Disk:
    """Loads images that tell their row, notes in which order, and can be held up."""

    def __init__(self):
        self.loaded = []
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Semaphore(0)

    def load(self, rows):
        self.began.release()
        assert self.go.wait(60)
        if (rows < 0).any():
            raise DataError("no such row")
        self.loaded.append(rows.tolist())
        return np.repeat(rows.astype(np.uint8), IMAGE_BYTES).reshape(-1, 3, 2, 2)


@pytest.fixture
def disk():
    return Disk()


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


def first_of(batch):
    return batch[:, 0, 0, 0].tolist()


def test_batches_are_loaded_in_the_order_announced_and_taken_in_any(disk):
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    for batch in (rows(1, 2), rows(3), rows(5, 4)):
        ahead.expect(batch)
    assert first_of(ahead.take(rows(5, 4))) == [5, 4]
    assert first_of(ahead.take(rows(1, 2))) == [1, 2]
    assert first_of(ahead.take(rows(3))) == [3]
    assert disk.loaded == [[1, 2], [3], [5, 4]]


def test_what_was_not_announced_is_not_there(disk):
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    assert ahead.take(rows(1)) is None
    ahead.expect(rows(1, 2))
    assert ahead.take(rows(2, 1)) is None
    assert first_of(ahead.take(rows(1, 2))) == [1, 2]
    assert ahead.take(rows(1, 2)) is None
    assert disk.loaded == [[1, 2]]


def test_what_is_announced_twice_is_loaded_once(disk):
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    for _ in range(3):
        ahead.expect(rows(7, 7))
    assert first_of(ahead.take(rows(7, 7))) == [7, 7]
    assert ahead.take(rows(7, 7)) is None
    assert disk.loaded == [[7, 7]]
    ahead.expect(rows(7, 7))
    assert first_of(ahead.take(rows(7, 7))) == [7, 7]


def test_only_so_much_is_loaded_before_somebody_takes_it(disk, monkeypatch):
    monkeypatch.setattr(read_ahead, "MOST_BYTES", 3 * IMAGE_BYTES)
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    for number in range(6):
        ahead.expect(rows(number))
    for _ in range(3):
        assert disk.began.acquire(timeout=60)
    assert not disk.began.acquire(blocking=False)
    assert first_of(ahead.take(rows(0))) == [0]
    assert disk.began.acquire(timeout=60)
    assert not disk.began.acquire(blocking=False)
    # The fifth was not begun: whoever wants it now loads it himself.
    assert ahead.take(rows(5)) is None
    for number in range(1, 5):
        assert first_of(ahead.take(rows(number))) == [number]
    assert disk.loaded == [[0], [1], [2], [3], [4]]


def test_a_batch_that_is_too_large_is_not_loaded_and_holds_up_nobody(disk, monkeypatch):
    monkeypatch.setattr(read_ahead, "MOST_BYTES", 2 * IMAGE_BYTES)
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    ahead.expect(rows(1, 2, 3))
    ahead.expect(rows(4))
    assert ahead.take(rows(1, 2, 3)) is None
    assert first_of(ahead.take(rows(4))) == [4]
    assert disk.loaded == [[4]]


def test_taking_waits_for_what_is_under_way(disk):
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    disk.go.clear()
    ahead.expect(rows(1))
    assert disk.began.acquire(timeout=60)
    with ThreadPoolExecutor(1) as other:
        taking = other.submit(ahead.take, rows(1))
        assert not taking.done()
        disk.go.set()
        assert first_of(taking.result()) == [1]


def test_an_error_is_raised_to_whoever_takes_and_the_next_batches_come(disk, monkeypatch):
    monkeypatch.setattr(read_ahead, "MOST_BYTES", 1 * IMAGE_BYTES)
    ahead = ReadAhead(disk.load, IMAGE_BYTES)
    ahead.expect(rows(-1))
    ahead.expect(rows(2))
    with pytest.raises(DataError, match="no such row"):
        ahead.take(rows(-1))
    assert first_of(ahead.take(rows(2))) == [2]
