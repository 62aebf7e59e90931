"""A model queue that several runs on a cluster share, as an actor."""

from collections.abc import Collection, Sequence
from typing import Any

import ray

from idm_ray.algorithm.state import ModelVersion, Pretrained, QueueState, VersionKey
from idm_ray.machine import peak_memory_bytes
from idm_ray.plan import Plan
from idm_ray.recorded_queue import Counts, RecordedQueue, Snapshots
from idm_ray.runtime.actors import ASIDE, Located
from idm_ray.workers import QueueWorker, QueueWorkerReport


class _SharedQueue(Located):
    """A `RecordedQueue` in the place of a run's own queue.

    What it recorded is in the object store, which puts on disk what memory has no room for. Should
    it die, Ray starts it again, and whatever is asked for is recorded once more.
    """

    def __init__(self, plan: Plan, *pretrained: Pretrained) -> None:
        self._queue = RecordedQueue(
            lambda: QueueWorker(plan, *pretrained), keep=ray.put, recall=ray.get
        )

    def serve(
        self, first: int, last: int, *, needed: int
    ) -> tuple[Sequence[Snapshots], QueueWorkerReport]:
        return self._queue.serve(first, last, needed=needed)

    def finish(self) -> QueueWorkerReport:
        return self._queue.finish()

    def state(
        self, known: Collection[VersionKey] = ()
    ) -> tuple[QueueState, dict[VersionKey, ModelVersion]]:
        return self._queue.state(known)

    def counts(self) -> Counts:
        return self._queue.counts()

    def peak_memory_bytes(self) -> int:
        return peak_memory_bytes()


_remote: Any = ray.remote
SharedQueue: Any = _remote(
    num_cpus=0, max_restarts=-1, max_task_retries=-1, concurrency_groups={ASIDE: 1}
)(_SharedQueue)
