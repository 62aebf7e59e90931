"""The whole method in one process, in the plainest order: the specification of a run.

`runtime.driver` must give the same images.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from idm_ray.algorithm.pretraining import Pretrained
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.host import num_cores
from idm_ray.layout import choose_numerics, compiling_notes, compiling_pays, crew_of_one
from idm_ray.machine import look_around, peak_memory_bytes
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import Busy, Collector, Evaluated, Progress
from idm_ray.results.card import Card
from idm_ray.results.outcome import write_results
from idm_ray.workers import (
    ClassWorker,
    Images,
    QueueWorker,
    evaluate,
    gather_images,
    pretrain,
)


class LocalRunner:
    """Runs a settled config in this process.

    Args:
        config: settled.
        info: of the data.
        marks: iterations after which a copy of the images is evaluated, with the jobs for each.
        pixels: through networks, by which compiling is decided.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        marks: dict[int, tuple[EvaluationJob, ...]],
        *,
        pixels: float,
    ) -> None:
        machine = config.machine
        found = look_around(
            machine.device,
            gpu_assigned=torch.cuda.is_available(),
            compiling=compiling_pays(machine, pixels),
        )
        threads = num_cores() if machine.threads == "auto" else machine.threads
        numerics = choose_numerics(machine, [found], threads=threads, pixels=pixels)
        self.plan = Plan(config=config, info=info, numerics=numerics)
        self.crew = crew_of_one(info.num_classes, gpus=int(found.device == "cuda"))
        self.where = f"one process on {found.name}, {threads} thread{'s' * (threads > 1)}"
        self.notes = (
            self.where,
            *compiling_notes(machine, [found], pixels=pixels),
        )
        self.seconds = 0.0
        self.busy = Busy()
        self.peak_memory_bytes = 0
        self._marks = marks
        self._images: Images
        self._queue: QueueWorker | None = None
        self._worker: ClassWorker | None = None
        self._pretrained: list[Pretrained] = []

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that those of the queue are copies of, if there are to be any."""
        for member in range(self.plan.config.queue.pretrained):
            network, report = pretrain(self.plan, member)
            self._pretrained.append(network)
            yield report

    def start(self) -> tuple[str, ...]:
        """Build the queue and the one worker that owns all groups; `pretrain` comes first."""
        self._queue = QueueWorker(self.plan, *self._pretrained)
        self._worker = ClassWorker(self.plan, range(len(self.plan.groups)))
        return ()

    def condense(self) -> Iterator[Progress | Evaluated]:
        """Run all iterations (Alg. 1); `start` comes first."""
        iterations, num_groups = self.plan.config.condense.iterations, len(self.plan.groups)
        collector = Collector(iterations=iterations, num_groups=num_groups, num_workers=1)
        reported_at = 0.0
        queue, worker = self._queue, self._worker
        assert queue is not None, "start comes first"
        assert worker is not None, "start comes first"
        for iteration in range(iterations):
            began = time.perf_counter()
            matched = worker.run(iteration, [queue.begin(iteration)])
            collector.add_worker(matched)
            collector.add_queue(queue.train(iteration))
            seconds = time.perf_counter() - began
            self.seconds += seconds
            self.busy = Busy(
                matching_s=self.busy.matching_s + matched.busy_s,
                training_s=self.busy.training_s + seconds - matched.busy_s,
                path_s=self.seconds,
            )
            for progress in collector.due(self.seconds - reported_at):
                reported_at = self.seconds
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
        """Stop what goes on in the background."""
        for worker in (self._queue, self._worker):
            if worker is not None:
                worker.close()
