"""What an iteration costs where nothing is computed: the real loop, actors and object sizes.

Everything is as in a run on CIFAR-sized images (the loop, the window of snapshots, one object of
the store for each, reports of every class) except that actors return at once.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from idm_ray.algorithm.class_group import GroupReport
from idm_ray.algorithm.model_server import QueueReport, Snapshot
from idm_ray.algorithm.networks import build_network
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.layout import cut_groups
from idm_ray.progress import Collector
from idm_ray.runtime.connection import connect, fetch
from idm_ray.runtime.loop import Loop
from idm_ray.runtime.snapshots import WINDOW, Snapshots
from idm_ray.workers import QueueWorkerReport, WorkerReport

NETWORK, IMAGE_SHAPE = "convnet-3", (3, 32, 32)

WARM_UP_ITERATIONS = 2 * WINDOW


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is varied.

    Attributes:
        actors: class actors; the queue is one more.
        classes: shared among them, in as many groups.
        iterations_per_call: at most; the window of snapshots bounds it as well.
    """

    actors: int
    classes: int
    iterations_per_call: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OrchestrationCost:
    """What a case cost.

    Attributes:
        case: what was measured.
        iterations: of each repeat.
        seconds_per_iteration: of each repeat, wall time.
        driver_seconds_per_iteration: processor time of the driver alone, mean.
        snapshot_bytes: put into the object store in each iteration.
    """

    case: Case
    iterations: int
    seconds_per_iteration: tuple[float, ...]
    driver_seconds_per_iteration: float
    snapshot_bytes: int

    @property
    def median_s(self) -> float:
        """Median over the repeats of the seconds per iteration."""
        return statistics.median(self.seconds_per_iteration)


class _IdleQueue:
    """A queue that serves networks of the right size and trains none."""

    def make(self, num_weights: int) -> None:
        """Have networks of so many weights from now on."""
        self._weights = np.zeros(num_weights, np.float32)

    def serve(self, first: int, last: int) -> tuple[Sequence[Sequence[Snapshot]], QueueWorkerReport]:
        """One network for each iteration, copied as the real queue does."""
        sequence, reports = [], []
        for iteration in range(first, last):
            weights = self._weights.copy()
            sequence.append((Snapshot(model=0, weights=weights, accuracy=0.5, age=iteration),))
            reports.append(
                QueueReport(
                    iteration=iteration, size=1, ages=(0,), accuracies=(0.5,), trained=TrainMetrics()
                )
            )
        return sequence, QueueWorkerReport(iterations=tuple(reports), busy_s=0.0)

    def finish(self) -> QueueWorkerReport:
        """Nothing was put off."""
        return QueueWorkerReport(iterations=(), busy_s=0.0)


class _IdleClassActor:
    """A class actor that has groups and does nothing with them."""

    def own(self, groups: Sequence[tuple[int, ...]]) -> None:
        """Own these groups from now on, given by the labels of their classes."""
        self._groups = groups

    def run(self, first_iteration: int, sequence: Sequence[Sequence[Snapshot]]) -> WorkerReport:
        """Reports of the right size."""
        reports = tuple(
            GroupReport(
                classes=classes,
                first_iteration=first_iteration,
                matching=np.zeros((len(sequence), len(classes))),
                regularization=np.zeros((len(sequence), len(classes))),
            )
            for classes in self._groups
        )
        return WorkerReport(groups=reports, busy_s=0.0)


IdleQueue: Any = ray.remote(num_cpus=0)(_IdleQueue)
IdleClassActor: Any = ray.remote(num_cpus=0)(_IdleClassActor)


def measure(
    cases: Sequence[Case], *, iterations: int = 200, repeats: int = 3
) -> Iterator[OrchestrationCost]:
    """Measure some cases, one after the other.

    Args:
        cases: what to measure.
        iterations: of each repeat.
        repeats: of each case, with the same actors.
    """
    connect()
    actors = [IdleClassActor.remote() for _ in range(max(case.actors for case in cases))]
    queue = IdleQueue.remote()
    try:
        for case in cases:
            yield _measure(case, actors[: case.actors], queue, iterations, repeats)
    finally:
        for actor in (*actors, queue):
            ray.kill(actor)


def _measure(
    case: Case, actors: Sequence[Any], queue: Any, iterations: int, repeats: int
) -> OrchestrationCost:
    network = build_network(NETWORK, IMAGE_SHAPE, case.classes)
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    groups = cut_groups(case.classes, max(1, case.classes // case.actors))
    ready = [actor.own.remote(groups[n :: case.actors]) for n, actor in enumerate(actors)]
    fetch([*ready, queue.make.remote(num_weights)])
    _iterate(case, actors, queue, WARM_UP_ITERATIONS)
    cpu = time.process_time()
    seconds = tuple(_iterate(case, actors, queue, iterations) for _ in range(repeats))
    cpu = time.process_time() - cpu
    return OrchestrationCost(
        case=case,
        iterations=iterations,
        seconds_per_iteration=tuple(s / iterations for s in seconds),
        driver_seconds_per_iteration=cpu / (repeats * iterations),
        snapshot_bytes=4 * num_weights,
    )


def _iterate(case: Case, actors: Sequence[Any], queue: Any, iterations: int) -> float:
    """Seconds of some iterations."""
    num_groups = len(cut_groups(case.classes, max(1, case.classes // case.actors)))
    collector = Collector(iterations=iterations, num_groups=num_groups, num_workers=len(actors))
    began = time.perf_counter()
    loop = Loop(
        actors,
        Snapshots(queue, iterations),
        collector,
        pace=lambda seconds, window: case.iterations_per_call,
    )
    while not loop.complete:
        loop.step()
        for _ in collector.due(time.perf_counter() - began):
            pass
    return time.perf_counter() - began
