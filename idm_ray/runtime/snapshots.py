"""The driver's side of the model queue: references to snapshots, made ahead of their use."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from idm_ray.algorithm.model_server import QueueReport
from idm_ray.runtime.connection import fetch

# Iterations whose snapshots may exist at once: enough that neither side waits for the other's
# hiccups, few enough that the object store holds little (1.3 MB each for ConvNet-3).
WINDOW = 16


class Snapshots:
    """References to the snapshots of all iterations, made ahead of their use and then dropped.

    Args:
        queue: handle of the queue actor, which carries out calls in their order.
        iterations: of the run.
    """

    def __init__(self, queue: Any, iterations: int) -> None:
        self._queue = queue
        self._iterations = iterations
        self._submitted = 0
        self._first = 0
        self._references: deque[Any] = deque()
        self._reports: deque[Any] = deque()
        self.served = 0
        """Iterations whose snapshots are there."""

    def advance(self, needed: int) -> None:
        """Drop what lies before iteration `needed`, and ask for the window that begins there."""
        while self._first < needed:
            self._references.popleft()
            self._first += 1
        while self._submitted < min(self._iterations, needed + WINDOW):
            self._references.append(self._queue.begin.remote(self._submitted))
            self._reports.append(self._queue.train.remote(self._submitted))
            self._submitted += 1

    def references(self, first: int, last: int) -> list[Any]:
        """References for iterations first ... last - 1."""
        return [self._references[i - self._first] for i in range(first, last)]

    def awaited(self) -> list[Any]:
        """The calls whose results are still to come."""
        return [*list(self._references)[self.served - self._first :], *self._reports]

    def collect(self, done: Sequence[Any]) -> Iterator[QueueReport]:
        """Take note of calls that are done; the queue finishes them in their order."""
        while self.served < self._submitted and self._references[self.served - self._first] in done:
            self.served += 1
        while self._reports and self._reports[0] in done:
            yield fetch(self._reports.popleft())

    @property
    def complete(self) -> bool:
        """Whether the queue has done and reported everything."""
        return self._submitted == self._iterations and not self._reports
