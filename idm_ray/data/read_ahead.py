"""Loads batches in the background, in the order in which they were announced."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

from idm_ray.data.images import Batch, Rows

MOST_BYTES = 256 << 20
"""Of batches that are loaded and not yet taken."""


class ReadAhead:
    """Batches under way; for one thread that announces and takes.

    Args:
        load: gives the images at some rows; is called from another thread.
        image_bytes: of one image.
    """

    def __init__(self, load: Callable[[Rows], Batch], image_bytes: int) -> None:
        self._load = load
        self._image_bytes = image_bytes
        self._jobs: SimpleQueue[tuple[Rows, Future[Batch]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loading: dict[bytes, Future[Batch]] = {}
        self._waiting: deque[Rows] = deque()
        self._held_bytes = 0

    def expect(self, rows: Rows) -> None:
        """Announce a batch; it is loaded as soon as there is room for it."""
        if rows.tobytes() not in self._loading and not any(_same(rows, w) for w in self._waiting):
            self._waiting.append(rows)
            self._start()

    def take(self, rows: Rows) -> Batch | None:
        """Give an announced batch once it is loaded; None if it was not announced in time."""
        loading = self._loading.pop(rows.tobytes(), None)
        if loading is None:
            self._waiting = deque(other for other in self._waiting if not _same(other, rows))
            self._start()
            return None
        self._held_bytes -= self._bytes(rows)
        try:
            return loading.result()
        finally:
            self._start()

    def close(self) -> None:
        """Forget what is announced and end the thread; announcing again starts another."""
        self._waiting.clear()
        for loading in self._loading.values():
            loading.cancel()
        self._loading.clear()
        self._held_bytes = 0
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _start(self) -> None:
        while self._waiting and self._held_bytes + self._bytes(self._waiting[0]) <= MOST_BYTES:
            rows = self._waiting.popleft()
            self._held_bytes += self._bytes(rows)
            future = self._loading[rows.tobytes()] = Future()
            self._jobs.put((rows, future))
            if self._thread is None:
                # Not of an executor: Python would not exit before all that is announced is loaded.
                self._thread = threading.Thread(target=self._work, name="read ahead", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            rows, future = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._load(rows))
                except BaseException as error:  # it is raised where the batch is taken
                    future.set_exception(error)

    def _bytes(self, rows: Rows) -> int:
        return len(rows) * self._image_bytes


def _same(one: Rows, other: Rows) -> bool:
    return one.tobytes() == other.tobytes()
