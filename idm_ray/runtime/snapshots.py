"""The driver's side of the model queue: references to snapshots, made ahead of their use."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from idm_ray.pace import WINDOW
from idm_ray.runtime.connection import fetch
from idm_ray.workers import QueueWorkerReport

# Calls by which the queue's pace is judged: longer than the usual interval between trainings, so
# that the slow iterations among quick ones are remembered, and compilation is forgotten.
JUDGED_CALLS = 64


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive iterations, `first` to `last - 1`, whose snapshots are one object of the store.

    Attributes:
        first: iteration.
        last: iteration after the block.
        sequence: reference to the snapshots of each iteration in turn.
        path_s: seconds of the longest chain of computing that led to them.
    """

    first: int
    last: int
    sequence: Any
    path_s: float


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of the queue under way; the last one serves no iterations.

    Attributes:
        first: iteration that it serves.
        last: iteration after those.
        sequence: reference to the snapshots.
        report: reference to what is told of it.
    """

    first: int
    last: int
    sequence: Any
    report: Any


class Snapshots:
    """Snapshots of all iterations, block by block, made ahead of their use and then dropped.

    Args:
        queue: handle of the queue actor, which carries out calls in their order.
        iterations: of the run.
        first: the iteration that the queue is at.
    """

    def __init__(self, queue: Any, iterations: int, *, first: int = 0) -> None:
        self.queue = queue
        self._serve = queue.serve.options(num_returns=2)
        self.iterations = iterations
        """Of the run."""
        self.window = WINDOW
        """Iterations whose snapshots may exist at once."""
        self.first = first
        """The iteration of the first snapshots."""
        self._submitted = first
        self._calls: deque[_Call] = deque()
        self._judged: deque[float] = deque(maxlen=JUDGED_CALLS)
        self._consumed_s = np.zeros(iterations + 1)
        self.served: dict[int, Block] = {}
        """Blocks that are there, by their first iteration."""
        self.busy_s = 0.0
        """Seconds that the queue computed."""
        self.path_s = 0.0
        """Seconds of the longest chain of computing that led to where the queue is."""

    @property
    def complete(self) -> bool:
        """Whether the queue has done and reported everything."""
        return self._submitted == self.iterations and not self._calls

    @property
    def seconds_per_iteration(self) -> float:
        """Of the slowest recent call; infinite before the first."""
        return max(self._judged, default=float("inf"))

    def advance(self, needed: int, iterations_per_call: int, until: int) -> None:
        """Drop what lies before iteration `needed`, and ask for the window that begins there.

        Args:
            needed: iteration.
            iterations_per_call: of the queue.
            until: iteration that nothing is asked for from.
        """
        for first in [f for f, block in self.served.items() if block.last <= needed]:
            del self.served[first]
        while self._submitted < until:
            first = self._submitted
            last = min(first + min(iterations_per_call, self.window), until)
            if last > needed + self.window:
                return
            sequence, report = self._serve.remote(first, last, needed=needed)
            self._calls.append(_Call(first, last, sequence, report))
            self._submitted = last
            if last == self.iterations:
                self._calls.append(_Call(last, last, None, self.queue.finish.remote()))

    def consumed(self, block: Block, path_s: float) -> None:
        """Take note that an actor has gone through a block, after so much computing in a chain."""
        there = slice(block.first + 1, block.last + 1)
        self._consumed_s[there] = np.maximum(self._consumed_s[there], path_s)

    def awaited(self) -> list[Any]:
        """The calls whose results are still to come."""
        return [call.report for call in self._calls]

    def collect(self, done: Collection[Any]) -> Iterator[QueueWorkerReport]:
        """Take note of calls that are done; the queue finishes them in their order."""
        while self._calls and self._calls[0].report in done:
            call = self._calls.popleft()
            report = fetch(call.report)
            self.busy_s += report.busy_s
            # It had to wait for the window.
            room_s = float(self._consumed_s[max(0, call.last - self.window)])
            self.path_s = max(self.path_s, room_s) + report.busy_s
            if call.last > call.first:
                block = Block(call.first, call.last, call.sequence, self.path_s)
                self.served[call.first] = block
                self._judged.append(report.busy_s / (call.last - call.first))
            yield report
