"""The driver's loop: class actors go through the sequence of snapshots, each at its own pace."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import ray

from idm_ray.pace import CALLS_PER_ACTOR, iterations_per_call
from idm_ray.progress import Busy, Collector
from idm_ray.runtime.connection import fetch
from idm_ray.runtime.snapshots import Block, Snapshots


class _ClassActor:
    """What the driver knows of one class actor."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.submitted = 0
        """Iterations it was told to run."""
        self.finished = 0
        """Iterations it has reported."""
        self.calls: deque[tuple[Any, Block]] = deque()
        """Calls under way, and what each goes through."""
        self.busy_s = 0.0
        """Seconds that it computed."""
        self.path_s = 0.0
        """Seconds of the longest chain of computing that led to where it is."""
        self.seconds_per_iteration = float("inf")
        """In its last call."""


class Loop:
    """Has class actors go through the snapshots, and tells a collector what everybody did.

    Args:
        handles: of the class actors.
        snapshots: what they consume.
        collector: of the same number of iterations.
        pace: seconds per iteration of the slowest process and the window -> iterations per call.
        at_block_end: called with an iteration and an actor that was told to go that far and not
            yet further.
    """

    def __init__(
        self,
        handles: Sequence[Any],
        snapshots: Snapshots,
        collector: Collector,
        *,
        pace: Callable[[float, int], int] = iterations_per_call,
        at_block_end: Callable[[int, Any], None] = lambda iteration, handle: None,
    ) -> None:
        self._actors = [_ClassActor(handle) for handle in handles]
        self._snapshots = snapshots
        self._collector = collector
        self._pace = pace
        self._at_block_end = at_block_end

    @property
    def complete(self) -> bool:
        """Whether everybody has done and reported everything."""
        return self._collector.complete and self._snapshots.complete

    @property
    def busy(self) -> Busy:
        """Seconds of computing so far."""
        return Busy(
            matching_s=max(actor.busy_s for actor in self._actors),
            training_s=self._snapshots.busy_s,
            path_s=max(self._snapshots.path_s, *(actor.path_s for actor in self._actors)),
        )

    def step(self) -> None:
        """Tell everybody what to do next, wait until somebody has done something, and take it."""
        seconds = max(
            self._snapshots.seconds_per_iteration,
            *(actor.seconds_per_iteration for actor in self._actors),
        )
        needed = min(actor.finished for actor in self._actors)
        self._snapshots.advance(needed, self._pace(seconds, self._snapshots.window))
        for actor in self._actors:
            self._feed(actor)
        done = _some_of([*self._snapshots.awaited(), *self._awaited()])
        for report in self._snapshots.collect(done):
            self._collector.add_queue(report)
        for actor in self._actors:
            if actor.calls and actor.calls[0][0] in done:
                self._take(actor)

    def _feed(self, actor: _ClassActor) -> None:
        """Give an actor its next blocks, as far as they are there."""
        while len(actor.calls) < CALLS_PER_ACTOR:
            block = self._snapshots.served.get(actor.submitted)
            if block is None:
                return
            actor.calls.append((actor.handle.run.remote(block.first, block.sequence), block))
            actor.submitted = block.last
            self._at_block_end(block.last, actor.handle)

    def _awaited(self) -> list[Any]:
        """Each actor's oldest call."""
        return [actor.calls[0][0] for actor in self._actors if actor.calls]

    def _take(self, actor: _ClassActor) -> None:
        """Take the report of an actor's oldest call."""
        call, block = actor.calls.popleft()
        report = fetch(call)
        actor.finished = block.last
        actor.busy_s += report.busy_s
        actor.path_s = max(actor.path_s, block.path_s) + report.busy_s
        self._snapshots.consumed(block, actor.path_s)
        actor.seconds_per_iteration = report.busy_s / (block.last - block.first)
        self._collector.add_worker(report)


def _some_of(calls: list[Any]) -> set[Any]:
    """The calls that are done; waits for the first one if none is."""
    # One may be done, or many: all are taken, so that nobody's turn is missed.
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=0, fetch_local=False)
    if not done:
        done, _ = ray.wait(calls, num_returns=1, fetch_local=False)
    return set(done)
