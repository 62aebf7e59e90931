"""What a run tells while it goes on: reports of many workers made into one line per interval."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from idm_ray.algorithm.model_server import QueueReport
from idm_ray.checkpoints.commit import Commit, EvaluationResult
from idm_ray.checkpoints.saving import Tally
from idm_ray.pace import iterations_per_report, iterations_remembered
from idm_ray.plan import EvaluationJob, Subject
from idm_ray.workers import QueueWorkerReport, WorkerReport


@dataclass(frozen=True, slots=True)
class Announcement:
    """A line that tells the user what was decided; `warning` if it may surprise."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Lost(Announcement):
    """Processes are lost: who, as far as that is known, and how many are by now."""

    names: tuple[str, ...] = ()
    so_far: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """The mean over the iterations since the last report.

    Attributes:
        iteration: iterations finished by every class.
        losses: matching loss and regularization, summed over classes.
        queue: the queue's state, of its reports since; empty if there are none.
        waiting: share of the time that class workers did not compute.
        data: what real images took.
        notes: what people should know of.
    """

    iteration: int
    losses: dict[str, float]
    queue: dict[str, float]
    waiting: float
    data: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advanced:
    """Some of the steps of what was started are done; `info` for people."""

    done: int
    info: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """A checkpoint is complete: from now on no failure goes back further.

    Attributes:
        number: of the commit.
        iteration: of the group that is furthest behind.
        bytes: of all its files.
        written_bytes: of those that were new.
        seconds: from asking for the state to the end of writing it.
    """

    number: int
    iteration: int
    bytes: int
    written_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Busy:
    """Seconds of computing.

    Attributes:
        matching_s: of the class worker that computed longest.
        training_s: of the queue.
        path_s: of the longest chain of computing in which each part had to wait for the one
            before: what condensing would take if nothing else cost any time.
    """

    matching_s: float = 0.0
    training_s: float = 0.0
    path_s: float = 0.0

    def __add__(self, other: "Busy") -> "Busy":
        """One after the other."""
        return Busy(
            matching_s=self.matching_s + other.matching_s,
            training_s=self.training_s + other.training_s,
            path_s=self.path_s + other.path_s,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A network that was trained and tested; accuracy is a fraction."""

    job: EvaluationJob
    accuracy: float


RunnerEvent = Progress | Advanced | Evaluated | Announcement | Committed
"""What a runner tells."""


@dataclass(kw_only=True, slots=True)
class Record:
    """What a run has to show so far; it outlives interruptions.

    Attributes:
        seconds: of condensing alone.
        busy: of them, those of computing.
        peak_memory_bytes: of all processes that condensed.
        evaluated: accuracies of networks that were trained and tested, fractions.
        told: iterations that the log of the run has lines of; kept there alone.
    """

    seconds: float = 0.0
    busy: Busy = field(default_factory=Busy)
    peak_memory_bytes: int = 0
    evaluated: dict[EvaluationJob, float] = field(default_factory=dict)
    told: int = 0

    @classmethod
    def of(cls, commit: Commit | None) -> "Record":
        """What it was at a commit; nothing before the first."""
        if commit is None:
            return cls()
        totals = dict(commit.totals)
        return cls(
            seconds=commit.seconds,
            peak_memory_bytes=int(totals.pop("peak_memory_bytes")),
            busy=Busy(**totals),
            evaluated={
                EvaluationJob(
                    subject=cast("Subject", result.subject),
                    repeat=result.repeat,
                    iteration=result.iteration,
                ): result.accuracy
                for result in commit.evaluated
            },
        )

    def tally(self) -> Tally:
        """The same for a commit."""
        return Tally(
            evaluated=tuple(
                EvaluationResult(**dataclasses.asdict(job), accuracy=accuracy)
                for job, accuracy in self.evaluated.items()
            ),
            seconds=self.seconds,
            totals={
                **dataclasses.asdict(self.busy),
                "peak_memory_bytes": float(self.peak_memory_bytes),
            },
        )


class Collector:
    """Adds up the reports of all workers, in whatever order they come.

    Args:
        iterations: of the run.
        starts: the first iteration that each group reports.
        num_workers: class workers that share the groups.
        at: the iteration that a run goes on from.
        told: iterations that were reported before: no report is both of them and of later ones.
    """

    def __init__(
        self,
        *,
        iterations: int,
        starts: Sequence[int],
        num_workers: int,
        at: int = 0,
        told: int = 0,
    ) -> None:
        self._every = iterations_per_report(iterations)
        self._iterations = iterations
        self._num_workers = num_workers
        self._missing = np.searchsorted(sorted(starts), np.arange(iterations), side="right")
        self._losses = np.zeros((2, iterations))
        self._queue: dict[int, QueueReport] = {}
        self._busy_s = 0.0
        self._matching, self._training = _DataSums(), _DataSums()
        self._told: set[str] = set()
        self._finished = min(starts)
        self._told_before = told
        # Before the last of the starts, not every group reports.
        self._reported = max([*starts, min(at, told)])

    @property
    def complete(self) -> bool:
        """Whether every group has finished every iteration."""
        return self._finished == self._iterations

    def add_worker(self, report: WorkerReport) -> None:
        """Take in what a class worker did."""
        self._busy_s += report.busy_s
        self._matching.add(report)
        for group in report.groups:
            there = slice(group.first_iteration, group.first_iteration + len(group.matching))
            self._losses[0, there] += group.matching.sum(axis=1)
            self._losses[1, there] += group.regularization.sum(axis=1)
            self._missing[there] -= 1
        while self._finished < self._iterations and self._missing[self._finished] == 0:
            self._finished += 1

    def add_queue(self, report: QueueWorkerReport) -> None:
        """Take in what the queue worker did."""
        self._training.add(report)
        self._queue |= {one.iteration: one for one in report.iterations}

    def due(self, elapsed_s: float) -> Iterator[Progress]:
        """A report, when enough iterations were finished; two where one was made before.

        Args:
            elapsed_s: seconds since the last report.
        """
        ends = [self._told_before] if self._reported < self._told_before <= self._finished else []
        if self._finished - max([self._reported, *ends]) >= (1 if self.complete else self._every):
            ends.append(self._finished)
        if not ends:
            return
        waiting = max(0.0, 1 - self._busy_s / max(elapsed_s * self._num_workers, 1e-9))
        data = {**self._matching.summary("matching"), **self._training.summary("training")}
        for end in ends:
            matching, regularization = self._losses[:, self._reported : end].mean(axis=1)
            yield Progress(
                iteration=end,
                losses={
                    "matching_loss": float(matching),
                    "regularization": float(regularization),
                },
                # The queue trains while the class workers match: what it did may be told late.
                queue=_summarise([self._queue.pop(i) for i in sorted(self._queue) if i < end]),
                waiting=waiting,
                # Of all the time since the last report, however many are made of it now.
                data=data if end == ends[-1] else {},
                notes=self._news((*self._matching.notes, *self._training.notes)),
            )
            self._reported = end
        self._busy_s = 0.0
        self._matching, self._training = _DataSums(), _DataSums()

    def _news(self, notes: Sequence[str]) -> tuple[str, ...]:
        """Notes that were not told yet: processes of one node notice the same."""
        news = tuple(note for note in dict.fromkeys(notes) if note not in self._told)
        self._told.update(news)
        return news


def first_reports(at: Sequence[int], iterations: int) -> list[int]:
    """The first iteration that each group reports, when it goes on from one."""
    return [max(0, iteration - iterations_remembered(iterations)) for iteration in at]


class _DataSums:
    """What real images took, in one kind of worker."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._busy_s = self._waited_s = 0.0
        self._decoded = self._bytes_read = 0

    def add(self, report: WorkerReport | QueueWorkerReport) -> None:
        """Take in the report of a call."""
        self.notes += report.data.notes
        self._busy_s += report.busy_s
        self._waited_s += report.data.waited_s
        self._decoded += report.data.decoded
        self._bytes_read += report.data.bytes_read

    def summary(self, kind: str) -> dict[str, float]:
        """Flat numbers; what is zero without shards is left out without them."""
        sums = {
            f"{kind}_data_waiting": self._waited_s / max(self._busy_s, 1e-9),
            f"{kind}_images_decoded": self._decoded,
            f"{kind}_bytes_read": self._bytes_read,
        }
        return {name: value for name, value in sums.items() if value}


def _summarise(reports: list[QueueReport]) -> dict[str, float]:
    """The queue over some iterations, as flat numbers."""
    if not reports:
        return {}
    ages = [age for r in reports for age in r.ages]
    accuracies = [a for r in reports for a in r.accuracies]
    summary: dict[str, Any] = {
        "queue_size": reports[-1].size,
        "matched_age": float(np.mean(ages)),
        "matched_accuracy": float(np.mean(accuracies)),
    }
    images = sum(r.trained.images for r in reports)
    if images:
        summary["trained_images"] = images
        summary["train_accuracy"] = sum(r.trained.correct for r in reports) / images
        summary["train_loss"] = sum(r.trained.loss for r in reports) / images
    return summary
