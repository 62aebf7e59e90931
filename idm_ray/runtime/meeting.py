"""The driver's loop where classes meet: rounds, between which a network sees all of their images.

All calls of an iteration are submitted at once. References to networks and images put them into
their order, so that nothing of it goes through the driver, and nobody waits for it.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from idm_ray.progress import Busy, Collector
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.watching import Paces, Watch


@dataclass(slots=True)
class _Phase:
    """Calls that go on side by side: of the queue, or of all class actors.

    Attributes:
        calls: whose results are still to come, with the number of the actor; -1: of the queue.
        ends_iteration: whether everybody has finished an iteration with them.
        busy_s: of the longest one so far.
    """

    calls: dict[Any, int]
    ends_iteration: bool = False
    busy_s: float = 0.0


_QUEUE = -1


class MeetingLoop:
    """Has class actors and the queue go through iterations of several rounds.

    One iteration is under way at a time, so that no group is more than that ahead of another.

    Args:
        class_actors: handles; all their groups are before the same iteration.
        queue: handle.
        collector: is told what everybody did.
        rounds: of an iteration.
        iterations: of the run.
        first: iteration to begin with.
        hang_timeout_s: a process that finishes no call for so long is ended; 0: never.
    """

    def __init__(
        self,
        class_actors: Sequence[Any],
        queue: Any,
        collector: Collector,
        *,
        rounds: int,
        iterations: int,
        first: int = 0,
        hang_timeout_s: float = 0.0,
    ) -> None:
        self._actors = class_actors
        self._queue = queue
        self._serve = queue.serve_round.options(num_returns=2)
        self._collector = collector
        self._rounds = rounds
        self._iterations = iterations
        self._iteration = first
        self._phases: deque[_Phase] = deque()
        self._watch = Watch(hang_timeout_s)
        self._paces = Paces(len(class_actors))
        self._matching_s = [0.0] * len(class_actors)
        self._training_s = self._path_s = 0.0

    @property
    def complete(self) -> bool:
        """Whether everybody has done and reported everything."""
        return self._iteration == self._iterations and not self._phases

    @property
    def iteration(self) -> int:
        """Iterations that every class actor has reported."""
        return self._iteration

    @property
    def busy(self) -> Busy:
        """Seconds of computing so far."""
        return Busy(
            matching_s=max(self._matching_s), training_s=self._training_s, path_s=self._path_s
        )

    def pauses_at(self, iteration: int) -> bool:
        """Whether nothing is left to do up to an iteration that is not the last."""
        return self._iteration == iteration < self._iterations and not self._phases

    def step(self, until: int) -> None:
        """Have an iteration begin if none is under way, wait until somebody has done something.

        Args:
            until: iteration that nobody goes beyond.

        Raises:
            ActorLostError: a process is gone, or hangs and was ended.
        """
        if not self._phases:
            if self._iteration >= until:
                return
            self._submit()
        phase = self._phases[0]
        awaited = {call: self._process(number) for call, number in phase.calls.items()}
        done = set(wait(list(awaited), timeout_s=self._watch.look_s))
        self._watch.look(awaited, done)
        for call in [call for call in phase.calls if call in done]:
            self._take(phase, call)
        if not phase.calls:
            self._path_s += phase.busy_s
            self._iteration += phase.ends_iteration
            self._phases.popleft()

    def news(self) -> Iterator[str]:
        """What people should know: class actors that turn out to be slow, each once."""
        yield from self._paces.news()

    def _submit(self) -> None:
        """Have everybody go through the rounds of the next iteration."""
        images: list[Any] = []
        for round_ in range(self._rounds):
            snapshots, report = self._serve.remote(self._iteration, round_, *images)
            self._phases.append(_Phase({report: _QUEUE}))
            calls = [
                actor.run_round.remote(self._iteration, round_, snapshots) for actor in self._actors
            ]
            numbered = {call: number for number, call in enumerate(calls)}
            is_last = round_ + 1 == self._rounds
            self._phases.append(_Phase(numbered, ends_iteration=is_last))
            if not is_last:
                images = [actor.images.remote() for actor in self._actors]
        if self._iteration + 1 == self._iterations:
            self._phases.append(_Phase({self._queue.finish.remote(): _QUEUE}))

    def _take(self, phase: _Phase, call: Any) -> None:
        """Take the report of a call."""
        number, report = phase.calls.pop(call), fetch(call)
        phase.busy_s = max(phase.busy_s, report.busy_s)
        if number == _QUEUE:
            self._training_s += report.busy_s
            self._collector.add_queue(report)
            return
        self._matching_s[number] += report.busy_s
        classes = sum(group.matching.size for group in report.groups)
        self._paces.add(number, report.busy_s, classes)
        self._collector.add_worker(report)

    def _process(self, number: int) -> tuple[str, Any]:
        if number == _QUEUE:
            return "the model queue", self._queue
        return f"class actor {number}", self._actors[number]
