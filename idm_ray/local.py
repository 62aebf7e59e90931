"""The whole method in one process, in the plainest order: the specification of a run.

`runtime.driver` must give the same images.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import choose_numerics, work_in_pixels
from idm_ray.machine import look_around, num_cores, peak_memory_bytes
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.progress import Collector, Evaluated, Progress
from idm_ray.results.card import Card
from idm_ray.results.outcome import write_results
from idm_ray.workers import (
    ClassWorker,
    Images,
    QueueWorker,
    evaluate,
    gather_images,
)


class LocalRunner:
    """Runs a settled config in this process.

    Args:
        config: settled.
        info: of the data.
        marks: iterations after which a copy of the images is evaluated, with the jobs for each.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        marks: dict[int, tuple[EvaluationJob, ...]],
    ) -> None:
        machine = config.machine
        found = look_around(machine.device, gpu_assigned=torch.cuda.is_available())
        threads = num_cores() if machine.threads == "auto" else machine.threads
        pixels = work_in_pixels(config, info.image_shape, info.train_counts)
        numerics = choose_numerics(machine, [found], threads=threads, pixels=pixels)
        self.plan = Plan(config=config, info=info, numerics=numerics)
        self.notes = (f"one process on {found.name}, {threads} thread{'s' * (threads > 1)}",)
        self.peak_memory_bytes = 0
        self._marks = marks
        self._images: Images

    def condense(self) -> Iterator[Progress | Evaluated]:
        """Run all iterations (Alg. 1)."""
        iterations, groups = self.plan.config.condense.iterations, range(len(self.plan.groups))
        queue, worker = QueueWorker(self.plan), ClassWorker(self.plan, groups)
        collector = Collector(iterations=iterations, num_groups=len(groups), num_workers=1)
        reported = time.perf_counter()
        for iteration in range(iterations):
            collector.add_worker(worker.run(iteration, queue.begin(iteration)))
            collector.add_queue(queue.train(iteration))
            for progress in collector.due(time.perf_counter() - reported):
                reported = time.perf_counter()
                yield progress
            for job in self._marks.get(iteration + 1, ()):
                images = gather_images(worker.images())
                yield Evaluated(job=job, accuracy=evaluate(self.plan, job, images))
        self._images = gather_images(worker.images())
        self.peak_memory_bytes = peak_memory_bytes()

    def adopt(self, images: Images) -> None:
        """Take finished images instead of condensing some."""
        self._images = images

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[Evaluated]:
        """Train and test networks on the finished images and on what they are compared with."""
        for job in jobs:
            yield Evaluated(job=job, accuracy=evaluate(self.plan, job, self._images))

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery into the run's folder."""
        write_results(folder, self._images, card)

    def close(self) -> None:
        """Nothing to let go of."""
