"""Checkpoints of a run on Ray: states go from actors to writing tasks by reference.

Nobody waits for them: the actors answer aside of what they do, and the driver looks in between.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from idm_ray.algorithm.state import QueueState
from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.saving import Saving, Tally, Written
from idm_ray.errors import ActorLostError, IdmRayError, StorageError
from idm_ray.progress import Announcement, Committed
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.keeper import Keeper
from idm_ray.runtime.team import Team

# How long results may take to be written while evaluation waits.
RESULTS_WITHIN_S = 60.0

TakeTally = Callable[[], Tally]
"""Gives what the run has to show, as it is when it is called."""

# Waits for calls, is told which are done, and gives the commit, its new bytes, and an obstacle.
_Round = Generator[list[Any], set[Any], tuple[Commit, int, str] | None]


class Commits:
    """Makes the commits of a run.

    Args:
        saving: decides about them.
        team: whose state it is.
        keeper: writes them.
        pretrained: references to the pretrained set.
        hang_timeout_s: a commit that is not written for so long is given up; 0: never.
    """

    def __init__(
        self,
        saving: Saving,
        team: Team,
        keeper: Keeper,
        pretrained: Sequence[Any],
        *,
        hang_timeout_s: float = 0.0,
    ) -> None:
        self._saving = saving
        self._team = team
        self._keeper = keeper
        self._pretrained = pretrained
        self._hang_timeout_s = hang_timeout_s
        self._iteration = 0
        self._round: _Round | None = None
        self._awaited: list[Any] = []
        self._began = 0.0
        self._told: set[str] = set()

    def keep(self, iteration: int, tally: TakeTally) -> Iterator[Announcement | Committed]:
        """Go on with the commit that is being made, or begin the next if it is due.

        Args:
            iteration: of the group that is furthest behind.
            tally: what the run has to show.
        """
        now, self._iteration = time.monotonic(), iteration
        if self._round is None and self._saving.due(now, iteration):
            self._begin(iteration, tally)
        elif self._round is not None:
            done = wait(self._awaited, num_returns=len(self._awaited), timeout_s=0)
            if len(done) == len(self._awaited):
                yield from self._go_on(set(done))
            elif self._hang_timeout_s and now - self._began > self._hang_timeout_s:
                self.give_up()
                late = f"it is not written after {now - self._began:.0f} s"
                yield from self._tell(self._saving.failed(StorageError(late)))

    def keep_now(
        self, iteration: int, tally: TakeTally, *, within_s: float
    ) -> Iterator[Announcement | Committed]:
        """Make a commit and wait for it; without the groups of processes that do not answer."""
        deadline, self._iteration = time.monotonic() + within_s, iteration
        yield from self._finish(deadline)
        self._begin(iteration, tally)
        yield from self._finish(deadline)

    def keep_results(self, tally: TakeTally) -> Iterator[Announcement | Committed]:
        """Make a commit of results alone, if one is due: nothing else has changed."""
        if self._saving.results_due(time.monotonic()):
            yield from self.keep_now(0, tally, within_s=RESULTS_WITHIN_S)

    def give_up(self) -> None:
        """Give up the commit that is being made, if one is, with all that would be written yet."""
        if self._round is not None:
            self._forget()
            self._keeper.start_over()

    def _forget(self) -> None:
        self._round, self._awaited = None, []

    def _begin(self, iteration: int, tally: TakeTally) -> None:
        self._began = time.monotonic()
        self._saving.begun(self._began, iteration)
        making = self._make(tally)
        with contextlib.suppress(StopIteration):  # there is nothing to commit yet
            self._awaited = next(making)
            self._round = making

    def _finish(self, deadline: float) -> Iterator[Announcement | Committed]:
        while self._round is not None:
            # Part of the time only: the steps that follow need some, too.
            left_s = max(0.0, deadline - time.monotonic()) * 0.6
            done = wait(self._awaited, num_returns=len(self._awaited), timeout_s=left_s)
            yield from self._go_on(set(done))

    def _go_on(self, done: set[Any]) -> Iterator[Announcement | Committed]:
        assert self._round is not None, "a commit is being made"
        try:
            self._awaited = self._round.send(done)
            return
        except StopIteration as end:
            self._forget()
            if end.value is None:
                return  # too many processes are gone; whoever needs them will say so
            commit, written_bytes, obstacle = end.value
            note = self._saving.committed(commit)
            yield Committed(
                number=commit.number,
                iteration=commit.iteration,
                bytes=commit.size,
                written_bytes=written_bytes,
                seconds=time.monotonic() - self._began,
            )
            if obstacle and obstacle not in self._told:
                self._told.add(obstacle)
                yield Announcement(f"old checkpoints were not removed: {obstacle}", warning=True)
        except (OSError, IdmRayError) as error:
            self._forget()
            note = self._saving.failed(error)
            self._saving.clean_up()
        yield from self._tell(note)

    def _tell(self, note: str | None) -> Iterator[Announcement]:
        if note:
            yield Announcement(note, warning=True)

    def _make(self, tally: TakeTally) -> _Round:
        """The steps of a commit; between them, calls are waited for."""
        saving, last = self._saving, self._saving.last
        queue_actor = self._team.queue
        if queue_actor is None:  # nothing changes any more but the tally
            if last is None:
                return None
            written = Written(groups={}, queue=last.queue, models={})
        else:
            # The queue first: its state is then not beyond that of any group.
            queue_call, versions = queue_actor.state.options(
                concurrency_group=actors.ASIDE, num_returns=2
            ).remote(set(saving.known))
            done = yield [queue_call]
            queue: QueueState | None = _found(queue_call, done) or (last.queue if last else None)
            if queue is None:
                return None
            written = yield from self._write(queue, versions)
        # Not before: copies that are not in these states any more have their results in it.
        commit = saving.next_commit(written, tally())
        if commit is None:
            return None
        saving.before_marker()
        publishing = self._keeper.process.publish.remote(commit)
        done = yield [publishing]
        if publishing not in done:
            self._keeper.start_over()
            return None
        return commit, written.size, fetch(publishing)

    def _write(self, queue: QueueState, versions: Any) -> Generator[list[Any], set[Any], Written]:
        """Have all files written that are new."""
        keeper, saving, last = self._keeper.process, self._saving, self._saving.last
        # As everybody is by now: who goes on keeps it for some time.
        at = self._iteration if saving.groups_meet else None
        unchanged = dict(enumerate(group.iteration for group in last.groups)) if last else {}
        groups = [
            keeper.write_groups.remote(_states(actor, at), unchanged)
            for actor in self._team.class_actors
        ]
        models = keeper.write_models.remote(versions)
        networks = keeper.write_pretrained.remote(
            *(() if saving.has_pretrained else self._pretrained)
        )
        done = yield (calls := [*groups, models, networks])
        if len(done) < len(calls):
            self._keeper.start_over()
        return Written(
            groups={n: g for call in groups for n, g in (_found(call, done) or {}).items()},
            queue=queue,
            models=_found(models, done) or {},
            pretrained=_found(networks, done) or (),
        )


def _states(actor: Any, at: int | None) -> Any:
    """Reference to the states of a class actor's groups; `at` as `ClassWorker.states` has it."""
    return actor.states.options(concurrency_group=actors.ASIDE).remote(at)


def _found(call: Any, done: set[Any]) -> Any:
    """The result of a call; None if it is not there in time, or its process is lost."""
    if call not in done:
        return None
    try:
        return fetch(call)
    except ActorLostError:
        return None
