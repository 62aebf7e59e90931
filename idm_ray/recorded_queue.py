"""A model queue for several runs: what it serves is made once and kept.

Nothing flows from the synthetic images back to the queue, so that runs which share data, seed and
settings of the queue consume one and the same sequence of snapshots, each at its own pace.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from idm_ray.algorithm.model_server import QueueReport, Snapshot
from idm_ray.algorithm.state import ModelVersion, QueueState, VersionKey
from idm_ray.real_images import DataReport
from idm_ray.workers import QueueWorker, QueueWorkerReport, SavedQueue

Snapshots = Sequence[Snapshot]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What a recorded queue did so far.

    Attributes:
        trained: iterations whose networks it trained.
        served: iterations that it was asked for, by all runs together.
    """

    trained: int
    served: int


class RecordedQueue:
    """Serves as a `QueueWorker` does, any iteration again and again.

    Its calls can be repeated: their results depend on their arguments alone.

    Args:
        make: builds the queue, when it is needed first.
        keep: puts the snapshots of an iteration where they are kept.
        recall: gets them back.
    """

    def __init__(
        self,
        make: Callable[[], QueueWorker],
        *,
        keep: Callable[[Snapshots], Any],
        recall: Callable[[Any], Snapshots],
    ) -> None:
        self._make, self._keep, self._recall = make, keep, recall
        self._worker: QueueWorker | None = None
        self._first: SavedQueue
        self._building = threading.Lock()
        self._kept: list[Any] = []
        self._reports: list[QueueReport] = []
        self._served = 0

    def serve(
        self, first: int, last: int, *, needed: int
    ) -> tuple[Sequence[Snapshots], QueueWorkerReport]:
        """The networks to match in iterations `first` to `last - 1`, as `QueueWorker.serve`.

        A run begins at iteration 0, or goes on there: no state of the queue in between is kept.

        Args:
            first: iteration.
            last: iteration after those.
            needed: of no concern here, as nothing is forgotten.
        """
        began, data, recorded = time.perf_counter(), DataReport(), len(self._kept)
        if recorded < last:
            sequence, report = self._trying(
                lambda queue: queue.serve(recorded, last, needed=recorded)
            )
            self._kept += [self._keep(snapshots) for snapshots in sequence]
            self._reports += report.iterations
            data = report.data
        self._served += last - first
        sequence = [self._recall(kept) for kept in self._kept[first:last]]
        # An iteration's training comes with the next one's networks.
        reports = self._reports[max(0, first - 1) : last - 1]
        return sequence, _report(reports, began, data)

    def finish(self) -> QueueWorkerReport:
        """The training of the last iteration, when all have been served."""
        began, data = time.perf_counter(), DataReport()
        if len(self._reports) < len(self._kept):
            report = self._trying(lambda queue: queue.finish())
            self._reports += report.iterations
            data = report.data
        return _report(self._reports[len(self._kept) - 1 :], began, data)

    def state(
        self, known: Collection[VersionKey] = ()
    ) -> tuple[QueueState, dict[VersionKey, ModelVersion]]:
        """The queue before its first iteration, without the weights of known networks.

        May be called from another thread meanwhile. A run that goes on from here gets what was
        recorded, or has it made again.
        """
        self._queue()
        state, versions = self._first
        return state, {key: version for key, version in versions.items() if key not in known}

    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(trained=len(self._reports), served=self._served)

    def _trying(self, act: Callable[[QueueWorker], Result]) -> Result:
        """Have the queue do something; if it fails in the middle, all is recorded anew."""
        queue = self._queue()
        try:
            return act(queue)
        except BaseException:
            with self._building:
                queue.close()
                self._worker, self._kept, self._reports = None, [], []
            raise

    def _queue(self) -> QueueWorker:
        with self._building:
            if self._worker is None:
                self._worker = self._make()
                self._first = self._worker.state()
            return self._worker


def _report(reports: Sequence[QueueReport], began: float, data: DataReport) -> QueueWorkerReport:
    return QueueWorkerReport(
        iterations=tuple(reports), busy_s=time.perf_counter() - began, data=data
    )
