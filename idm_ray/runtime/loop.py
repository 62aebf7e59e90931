"""The driver's loop: class actors go through the sequence of snapshots, each at its own pace."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from idm_ray.checkpoints.commit import Commit
from idm_ray.pace import CALLS_PER_ACTOR, iterations_per_call
from idm_ray.plan import Plan
from idm_ray.progress import Busy, Collector, first_reports
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.meeting import MeetingLoop
from idm_ray.runtime.snapshots import Block, Snapshots
from idm_ray.runtime.team import Team
from idm_ray.runtime.watching import Paces, Watch


class _ClassActor:
    """What the driver knows of one class actor.

    Args:
        handle: of the actor.
        submitted: iteration after those that it was told to run.
        finished: iteration after those that all its groups have reported.
    """

    def __init__(self, handle: Any, *, submitted: int, finished: int) -> None:
        self.handle = handle
        self.submitted = submitted
        self.finished = finished
        self.calls: deque[tuple[Any, Block]] = deque()
        """Calls under way, and what each goes through."""
        self.busy_s = 0.0
        """Seconds that it computed."""
        self.path_s = 0.0
        """Seconds of the longest chain of computing that led to where it is."""
        self.seconds_per_iteration = float("inf")
        """In its last call."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a class actor stands when a loop begins.

    Attributes:
        handle: of the actor.
        iteration: of its group that is furthest behind.
    """

    handle: Any
    iteration: int = 0


class Loop:
    """Has class actors go through the snapshots, and tells a collector what everybody did.

    Args:
        starts: the class actors.
        snapshots: what they consume, from an iteration that none of them is before.
        collector: of the same number of iterations.
        pace: seconds per iteration of the slowest process and the window -> iterations per call.
        hang_timeout_s: a process that finishes no call for so long is ended; 0: never.
    """

    def __init__(
        self,
        starts: Sequence[Start],
        snapshots: Snapshots,
        collector: Collector,
        *,
        pace: Callable[[float, int], int] = iterations_per_call,
        hang_timeout_s: float = 0.0,
    ) -> None:
        self._actors = [
            _ClassActor(start.handle, submitted=snapshots.first, finished=start.iteration)
            for start in starts
        ]
        self._snapshots = snapshots
        self._collector = collector
        self._pace = pace
        self._watch = Watch(hang_timeout_s)
        self._paces = Paces(len(starts))

    @property
    def complete(self) -> bool:
        """Whether everybody has done and reported everything."""
        return self.iteration == self._snapshots.iterations and self._snapshots.complete

    @property
    def iteration(self) -> int:
        """Iterations that every class actor has reported."""
        return min(actor.finished for actor in self._actors)

    @property
    def busy(self) -> Busy:
        """Seconds of computing so far."""
        return Busy(
            matching_s=max(actor.busy_s for actor in self._actors),
            training_s=self._snapshots.busy_s,
            path_s=max(self._snapshots.path_s, *(actor.path_s for actor in self._actors)),
        )

    def pauses_at(self, iteration: int) -> bool:
        """Whether nothing is left to do up to an iteration that is not the last."""
        return self.iteration == iteration < self._snapshots.iterations

    def step(self, until: int) -> None:
        """Tell everybody what to do next, wait until somebody has done something, and take it.

        Args:
            until: iteration that nobody goes beyond.

        Raises:
            ActorLostError: a process is gone, or hangs and was ended.
        """
        seconds = max(
            self._snapshots.seconds_per_iteration,
            *(actor.seconds_per_iteration for actor in self._actors),
        )
        # Groups may be beyond the first snapshots; their actors pass over those all the same.
        needed = min(min(actor.finished, actor.submitted) for actor in self._actors)
        self._snapshots.advance(needed, self._pace(seconds, self._snapshots.window), until)
        for actor in self._actors:
            self._feed(actor)
        awaited = self._awaited()
        done = set(wait(list(awaited), timeout_s=self._watch.look_s))
        self._watch.look(awaited, done)
        for report in self._snapshots.collect(done):
            self._collector.add_queue(report)
        for number, actor in enumerate(self._actors):
            if actor.calls and actor.calls[0][0] in done:
                self._take(number, actor)

    def news(self) -> Iterator[str]:
        """What people should know: class actors that turn out to be slow, each once."""
        yield from self._paces.news()

    def _feed(self, actor: _ClassActor) -> None:
        """Give an actor its next blocks, as far as they are there."""
        while len(actor.calls) < CALLS_PER_ACTOR:
            block = self._snapshots.served.get(actor.submitted)
            if block is None:
                return
            actor.calls.append((actor.handle.run.remote(block.first, block.sequence), block))
            actor.submitted = block.last

    def _awaited(self) -> dict[Any, tuple[str, Any]]:
        """Calls that are waited for, and whose they are: of an actor its oldest."""
        queue = ("the model queue", self._snapshots.queue)
        calls: dict[Any, tuple[str, Any]] = dict.fromkeys(self._snapshots.awaited(), queue)
        for number, actor in enumerate(self._actors):
            if actor.calls:
                calls[actor.calls[0][0]] = (f"class actor {number}", actor.handle)
        return calls

    def _take(self, number: int, actor: _ClassActor) -> None:
        """Take the report of an actor's oldest call."""
        call, block = actor.calls.popleft()
        report = fetch(call)
        actor.finished = max(actor.finished, block.last)
        actor.busy_s += report.busy_s
        actor.path_s = max(actor.path_s, block.path_s) + report.busy_s
        self._snapshots.consumed(block, actor.path_s)
        actor.seconds_per_iteration = report.busy_s / (block.last - block.first)
        classes = sum(group.matching.size for group in report.groups)
        self._paces.add(number, report.busy_s, classes)
        self._collector.add_worker(report)


def loop_from(
    commit: Commit | None, plan: Plan, team: Team, *, told: int
) -> tuple[Loop | MeetingLoop, Collector]:
    """The loop of a run, and what it tells.

    Args:
        commit: that everybody has gone back to; None: to the beginning.
        plan: of the run.
        team: all of it started.
        told: iterations that were reported before.
    """
    iterations, hang_timeout_s = plan.config.condense.iterations, plan.config.machine.hang_timeout_s
    at = [group.iteration for group in commit.groups] if commit else [0] * len(plan.groups)
    *handles, queue = team.processes
    collector = Collector(
        iterations=iterations,
        starts=first_reports(at, iterations),
        num_workers=len(handles),
        at=min(at),
        told=told,
    )
    if plan.rounds > 1:
        meeting = MeetingLoop(
            handles,
            queue,
            collector,
            rounds=plan.rounds,
            iterations=iterations,
            first=min(at),
            hang_timeout_s=hang_timeout_s,
        )
        return meeting, collector
    starts = [
        Start(handle, min(at[group] for group in own))
        for handle, own in zip(handles, team.layout.assignment, strict=True)
    ]
    snapshots = Snapshots(queue, iterations, first=commit.queue.iteration if commit else 0)
    return Loop(starts, snapshots, collector, hang_timeout_s=hang_timeout_s), collector
