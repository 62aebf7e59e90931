"""What an iteration costs where nothing is computed: the real loop, actors and object sizes.

Everything is as in a run on images of 32x32 (the loop, its window, snapshots in the object store,
reports of every class), except that the actors return at once.
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
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.building import build_network
from idm_ray.layout import cut_groups
from idm_ray.pace import WINDOW
from idm_ray.progress import Collector
from idm_ray.runtime.connection import connect, fetch
from idm_ray.runtime.loop import Loop, Start
from idm_ray.runtime.snapshots import Snapshots
from idm_ray.workers import QueueWorkerReport, WorkerReport

NETWORK, IMAGE_SHAPE = "convnet-3", (3, 32, 32)

WARM_UP_ITERATIONS = 2 * WINDOW

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What is varied.

    Attributes:
        actors: class actors; the queue is one more.
        classes: shared among them, at least one for each.
        iterations_per_call: at most the window.
    """

    actors: int = 8
    classes: int = 100
    iterations_per_call: int = 8

    @property
    def groups(self) -> Groups:
        """Labels of each group's classes; at least one group for each actor."""
        return cut_groups(self.classes, max(1, self.classes // self.actors))

    @property
    def num_weights(self) -> int:
        """Of the network for so many classes."""
        network = build_network(NETWORK, IMAGE_SHAPE, self.classes)
        return sum(parameter.numel() for parameter in network.parameters())


@dataclass(frozen=True, kw_only=True, slots=True)
class OrchestrationCost:
    """What an iteration cost in one case.

    Attributes:
        case: what was measured.
        snapshot_bytes: put into the object store.
        seconds: wall time, median of some repeats.
        driver_s: processor time of the driver.
        queue_s: processor time of the queue.
        actor_s: processor time of one class actor, mean.
    """

    case: Case
    snapshot_bytes: int
    seconds: float
    driver_s: float
    queue_s: float
    actor_s: float


CASES = tuple(
    dict.fromkeys(
        [
            *(Case(actors=actors) for actors in (1, 2, 4, 8, 16)),
            *(Case(classes=classes) for classes in (10, 100, 1000)),
            *(Case(iterations_per_call=iterations) for iterations in (1, 2, 4, 8, 16)),
        ]
    )
)


class _IdleQueue:
    """A queue that serves networks of the right size and trains none."""

    def make(self, num_weights: int) -> None:
        """Have networks of so many weights from now on."""
        self._weights = np.zeros(num_weights, np.float32)

    def serve(
        self, first: int, last: int, *, needed: int
    ) -> tuple[Sequence[Sequence[Snapshot]], QueueWorkerReport]:
        """One network for each iteration, copied as the real queue does."""
        sequence = [
            (Snapshot(model=0, weights=self._weights.copy(), accuracy=0.5, age=iteration),)
            for iteration in range(first, last)
        ]
        reports = tuple(
            QueueReport(iteration=i, size=1, ages=(i,), accuracies=(0.5,), trained=TrainMetrics())
            for i in range(first, last)
        )
        return sequence, QueueWorkerReport(iterations=reports, busy_s=0.0)

    def finish(self) -> QueueWorkerReport:
        """Nothing was put off."""
        return QueueWorkerReport(iterations=(), busy_s=0.0)

    def processor_s(self) -> float:
        """Processor time of this process so far."""
        return time.process_time()


class _IdleClassActor:
    """A class actor that has groups and does nothing with them."""

    def own(self, groups: Groups) -> None:
        """Own these groups from now on."""
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

    def processor_s(self) -> float:
        """Processor time of this process so far."""
        return time.process_time()


# They wait most of the time, so that they need no processor of their own.
IdleQueue: Any = ray.remote(num_cpus=0)(_IdleQueue)
IdleClassActor: Any = ray.remote(num_cpus=0)(_IdleClassActor)


def measure(
    cases: Sequence[Case] = CASES, *, iterations: int = 200, repeats: int = 3
) -> Iterator[OrchestrationCost]:
    """Measure some cases, one after the other, with the same processes.

    Args:
        cases: what to measure.
        iterations: of each repeat.
        repeats: of each case.
    """
    connect()
    class_actors = [IdleClassActor.remote() for _ in range(max(case.actors for case in cases))]
    queue = IdleQueue.remote()
    try:
        for case in cases:
            yield _measure(case, [*class_actors[: case.actors], queue], iterations, repeats)
    finally:
        for process in (*class_actors, queue):
            ray.kill(process)


def _measure(
    case: Case, processes: Sequence[Any], iterations: int, repeats: int
) -> OrchestrationCost:
    *class_actors, queue = processes
    fetch(
        [
            queue.make.remote(case.num_weights),
            *(a.own.remote(case.groups[n :: case.actors]) for n, a in enumerate(class_actors)),
        ]
    )
    _iterate(case, processes, WARM_UP_ITERATIONS)
    before = _processor_s(processes)
    seconds = [_iterate(case, processes, iterations) for _ in range(repeats)]
    used = (_processor_s(processes) - before) / (repeats * iterations)
    return OrchestrationCost(
        case=case,
        snapshot_bytes=case.num_weights * np.dtype(np.float32).itemsize,
        seconds=statistics.median(seconds) / iterations,
        driver_s=float(used[-1]),
        queue_s=float(used[-2]),
        actor_s=float(used[:-2].mean()),
    )


def _processor_s(processes: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Processor time of each process and, last, of this one."""
    return np.array([*fetch([p.processor_s.remote() for p in processes]), time.process_time()])


def _iterate(case: Case, processes: Sequence[Any], iterations: int) -> float:
    """Seconds of some iterations."""
    *class_actors, queue = processes
    collector = Collector(
        iterations=iterations, starts=[0] * len(case.groups), num_workers=len(class_actors)
    )
    snapshots = Snapshots(queue, iterations)
    loop = Loop(
        [Start(actor) for actor in class_actors],
        snapshots,
        collector,
        pace=lambda seconds, window: case.iterations_per_call,
    )
    began = time.perf_counter()
    while not loop.complete:
        loop.step(iterations)
        # As a run does, whose reports go to a file.
        list(collector.due(time.perf_counter() - began))
    return time.perf_counter() - began
