"""When a run's next commit is due, what it is made of, and which one to go back to."""

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from idm_ray.algorithm.state import QueueState, VersionKey
from idm_ray.checkpoints.commit import Commit, EvaluationResult, StoredFile, StoredGroup
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checks import Interval
from idm_ray.errors import CheckpointError, IdmRayError

# After storage has failed: soon enough that little is lost, seldom enough not to be in its way.
RETRY_S: Final = 30.0

# Results of evaluation are written this often: they are small, and took long.
RESULTS_EVERY_S: Final = 5.0

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What a run has to show so far, besides its state.

    Attributes:
        evaluated: results of networks that were trained and tested.
        seconds: of condensing.
        totals: other numbers that go on from where they were, by name.
    """

    evaluated: tuple[EvaluationResult, ...] = ()
    seconds: float = 0.0
    totals: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """Files of a commit that is still to be published: those that are new.

    Attributes:
        groups: by number; those that are missing are as in the commit before.
        queue: for the group that is furthest behind.
        models: of the queue; those that are missing are as in the commit before.
        pretrained: the set; empty if it is as in the commit before.
    """

    groups: Mapping[int, StoredGroup]
    queue: QueueState
    models: Mapping[VersionKey, StoredFile]
    pretrained: tuple[StoredFile, ...] = ()

    @property
    def size(self) -> int:
        """Of the new files together, in bytes."""
        groups = (group.file for group in self.groups.values())
        return sum(file.size for file in (*groups, *self.models.values(), *self.pretrained))


class Saving:
    """Knows a run's commits, and when the next one is due.

    Args:
        folder: of the commits.
        interval: between them.
        num_groups: groups of classes of the run.
        groups_meet: whether they depend on each other, so that a commit has all of them before
            the same iteration.
    """

    def __init__(
        self,
        folder: CheckpointFolder,
        interval: Interval,
        *,
        num_groups: int,
        groups_meet: bool = False,
    ) -> None:
        self.folder = folder
        self.groups_meet = groups_meet
        self._num_groups = num_groups
        self.last: Commit | None = None
        """The commit that the run would go back to."""
        self.before_marker: Callable[[], None] = lambda: None
        """Makes what must not be older than a commit durable; raises what writing raises."""
        self._interval = interval
        self._tried_s: float | None = None
        self._tried_iteration = 0
        self._failing = False

    def go_back(self, load: Callable[[Commit], Loaded]) -> tuple[Loaded | None, list[str]]:
        """Load the newest commit that is whole, and forget those after it.

        Args:
            load: reads the files of a commit, or raises CheckpointError.

        Returns:
            What was loaded, None if there is nothing to go back to; and what was wrong with newer
            ones, a line each.
        """
        problems: list[str] = []
        sound: list[Commit] = []
        for commit in self.folder.commits():
            try:
                if isinstance(commit, CheckpointError):
                    raise commit
                sound.append(commit)
                loaded = load(commit)
            except CheckpointError as error:
                problems.append(f"a checkpoint cannot be used: {error}")
                continue
            if problems:
                problems.append(f"an earlier one is used, of iteration {commit.iteration}")
                self.folder.return_to(commit)
            self._stand_at(commit)
            return loaded, problems
        # What commits share is the queue's, which depends on the real images alone.
        for commit in (commit.without_queue() for commit in sound):
            with contextlib.suppress(CheckpointError):
                loaded = load(commit)
                problems.append(
                    f"the images of iteration {commit.iteration} are whole: they are used, and the "
                    "networks are trained again from the first iteration"
                )
                self._stand_at(commit)
                return loaded, problems
        if problems:
            problems.append("no checkpoint can be used: the run starts again from iteration 0")
            self.folder.remove()
        self._stand_at(None)
        return None, problems

    def _stand_at(self, commit: Commit | None) -> None:
        self.last, self._tried_iteration = commit, commit.iteration if commit else 0

    def due(self, now_s: float, iteration: int) -> bool:
        """Whether it is time for a commit.

        Args:
            now_s: a clock that only goes forward; the interval begins with the first call.
            iteration: of the group that is furthest behind.
        """
        if self._tried_s is None:
            self._tried_s = now_s
        passed_s = now_s - self._tried_s
        if self._failing:
            return passed_s >= RETRY_S
        if self._interval.iterations is not None:
            return iteration - self._tried_iteration >= self._interval.iterations
        return passed_s >= (self._interval.seconds or 0)

    def results_due(self, now_s: float) -> bool:
        """The same when nothing changes any more but results of evaluation."""
        every_s = RETRY_S if self._failing else RESULTS_EVERY_S
        return self._tried_s is None or now_s - self._tried_s >= every_s

    def begun(self, now_s: float, iteration: int) -> None:
        """Take note that a commit is being made."""
        self._tried_s, self._tried_iteration = now_s, iteration

    @property
    def known(self) -> Collection[VersionKey]:
        """Networks of the queue whose weights are in the last commit."""
        return self.last.versions.keys() if self.last else ()

    @property
    def has_pretrained(self) -> bool:
        """Whether the pretrained set is in the last commit."""
        return self.last is not None and bool(self.last.pretrained)

    def is_new(self, number: int, iteration: int) -> bool:
        """Whether a group has gone on since the last commit.

        One that has not keeps its file, whose name would be the same.
        """
        return self.last is None or self.last.groups[number].iteration != iteration

    def next_commit(self, written: Written, tally: Tally) -> Commit | None:
        """The record of a commit; None if something of it was never written, or does not fit.

        Where a group is as it was in the last commit, the queue has to be, too.
        """
        last = self.last
        groups = dict(enumerate(last.groups)) if last else {}
        groups |= written.groups
        models = {**(last.versions if last else {}), **written.models}
        if len(groups) < self._num_groups:
            return None
        if self.groups_meet and len({group.iteration for group in groups.values()}) > 1:
            return None
        queue = written.queue
        behind = min(group.iteration for group in groups.values())
        if queue.iteration > behind or any(m.version not in models for m in queue.models):
            if last is None:
                return None
            queue = last.queue
        return Commit(
            number=last.number + 1 if last else 0,
            groups=tuple(groups[number] for number in range(len(groups))),
            queue=queue,
            models=tuple(models[model.version] for model in queue.models),
            pretrained=written.pretrained or (last.pretrained if last else ()),
            evaluated=tally.evaluated,
            seconds=tally.seconds,
            totals=tally.totals,
        )

    def clean_up(self) -> None:
        """Make room where a commit could not be published, on a disk that may be full.

        In an object store, what was written for it is removed by the next one that can be.
        """
        if self.folder.place.local is None:
            return
        with contextlib.suppress(OSError, IdmRayError):
            if self.last is not None:
                self.folder.return_to(self.last)
            else:
                self.folder.remove()

    def committed(self, commit: Commit) -> str | None:
        """Take note of a commit that was published; what people should know, if anything."""
        self.last = commit
        if self._failing:
            self._failing = False
            return (
                f"checkpoints can be written again; the newest is at iteration {commit.iteration}"
            )
        return None

    def failed(self, error: Exception) -> str | None:
        """Take note of a commit that could not be written; what people should know, if anything."""
        if self._failing:
            return None
        self._failing = True
        return (
            f"a checkpoint could not be written ({error}); {self.standing}; it is tried again "
            f"every {RETRY_S:g} s"
        )

    @property
    def standing(self) -> str:
        """Which commit there is, for people."""
        if self.last is None:
            return "there is none yet"
        return f"the last one, at iteration {self.last.iteration}, stands"
