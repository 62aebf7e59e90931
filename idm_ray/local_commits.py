"""Checkpoints of a run in one process: written in the background while the next iteration runs."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from idm_ray.algorithm.state import (
    GroupState,
    ModelVersion,
    Pretrained,
    QueueState,
    VersionKey,
)
from idm_ray.checkpoints.commit import Commit
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.checkpoints.saving import Saving, Tally, Written
from idm_ray.errors import IdmRayError
from idm_ray.progress import Announcement, Committed


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """All that decides the future of a run.

    Attributes:
        groups: by number.
        queue: and the weights of its networks.
        pretrained: the pretrained set.
    """

    groups: Mapping[int, GroupState]
    queue: QueueState
    versions: Mapping[VersionKey, ModelVersion]
    pretrained: Sequence[Pretrained] = ()


Take = Callable[[Collection[VersionKey]], tuple[RunState, Tally]]


def load(folder: CheckpointFolder, commit: Commit) -> RunState:
    """Read all files of a commit.

    Raises:
        CheckpointError: one is damaged or missing.
    """
    return RunState(
        groups={number: folder.read_group(group) for number, group in enumerate(commit.groups)},
        queue=commit.queue,
        versions={key: folder.read_model(file) for key, file in commit.versions.items()},
        pretrained=[folder.read_pretrained(file) for file in commit.pretrained],
    )


class Commits:
    """Makes the commits of a run in one process.

    Args:
        saving: decides about them.
    """

    def __init__(self, saving: Saving) -> None:
        self._saving = saving
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[tuple[Commit, Committed, str]] | None = None
        self._told: set[str] = set()

    def keep(self, iteration: int, take: Take) -> Iterator[Announcement | Committed]:
        """Tell of the last commit if it is written by now, and begin the next if it is due.

        Args:
            iteration: of the group that is furthest behind.
            take: gives the state, but for the weights of the networks that it is called with.
        """
        if self._writing is not None and self._writing.done():
            yield from self._finish()
        if self._writing is None and self._saving.due(time.monotonic(), iteration):
            self._begin(iteration, take)

    def keep_now(
        self, iteration: int, take: Take, *, within_s: float | None = None
    ) -> Iterator[Announcement | Committed]:
        """Make a commit, and wait until it is written, for so many seconds if that is limited."""
        deadline = None if within_s is None else time.monotonic() + within_s
        yield from self._finish(deadline)
        if self._writing is None:
            self._begin(iteration, take)
            yield from self._finish(deadline)
        if self._writing is not None:
            text = f"no checkpoint could be written within {within_s:g} s; {self._saving.standing}"
            yield Announcement(text, warning=True)

    def keep_results(self, iteration: int, take: Take) -> Iterator[Announcement | Committed]:
        """Make a commit when only results of evaluation are new, if one is due."""
        if self._saving.results_due(time.monotonic()):
            yield from self.keep_now(iteration, take)

    def _begin(self, iteration: int, take: Take) -> None:
        self._saving.begun(time.monotonic(), iteration)
        self._writing = self._thread.submit(_write, self._saving, *take(self._saving.known))

    def _finish(self, deadline: float | None = None) -> Iterator[Announcement | Committed]:
        """Wait for the commit that is being written; past the deadline, leave it to be written."""
        if self._writing is None:
            return
        left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not wait([self._writing], left_s).done:
            return
        writing, self._writing = self._writing, None
        try:
            commit, committed, obstacle = writing.result()
        except (OSError, IdmRayError) as error:
            note = self._saving.failed(error)
        else:
            note = self._saving.committed(commit)
            yield committed
            if obstacle and obstacle not in self._told:
                self._told.add(obstacle)
                yield Announcement(f"old checkpoints were not removed: {obstacle}", warning=True)
        if note:
            yield Announcement(note, warning=True)

    def close(self) -> None:
        """Wait until nothing is written any more."""
        self._thread.shutdown()


def _write(saving: Saving, state: RunState, tally: Tally) -> tuple[Commit, Committed, str]:
    """Write a commit; what it is, and what stood in the way of removing older ones."""
    began, folder = time.monotonic(), saving.folder
    groups = {n: group for n, group in state.groups.items() if saving.is_new(n, group.iteration)}
    try:
        written = Written(
            groups=folder.write_groups(groups),
            queue=state.queue,
            models=folder.write_models(state.versions),
            pretrained=(() if saving.has_pretrained else folder.write_pretrained(state.pretrained)),
        )
        commit = saving.next_commit(written, tally)
        assert commit is not None, "all groups are in this process"
        saving.before_marker()
        obstacle = folder.publish(commit)
    except (OSError, IdmRayError):
        saving.clean_up()
        raise
    committed = Committed(
        number=commit.number,
        iteration=commit.iteration,
        bytes=commit.size,
        written_bytes=written.size,
        seconds=time.monotonic() - began,
    )
    return commit, committed, obstacle
