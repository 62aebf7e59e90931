"""The whole method in one process, in the plainest order: the specification of a run.

`runtime.driver` must give the same images.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.state import Pretrained, VersionKey
from idm_ray.arithmetic import check_numerics, choose_numerics, compiling_notes, compiling_pays
from idm_ray.checkpoints.saving import Saving, Tally
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.evaluation_jobs import best_iterate
from idm_ray.examining import evaluate
from idm_ray.host import num_cores
from idm_ray.layout import crew_of_one
from idm_ray.local_commits import Commits, RunState, load
from idm_ray.machine import look_around, peak_memory_bytes, reset_peak_memory
from idm_ray.monitoring import Export
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import (
    Advanced,
    Announcement,
    Busy,
    Collector,
    Committed,
    Evaluated,
    Record,
    RunnerEvent,
    first_reports,
)
from idm_ray.results.card import Card
from idm_ray.results.outcome import write_results, write_selected
from idm_ray.selecting import select
from idm_ray.workers import ClassWorker, Images, QueueWorker, WorkerReport, gather_images, pretrain


class LocalRunner:
    """Runs a settled config in this process.

    Args:
        config: settled.
        info: of the data.
        marks: iterations after which a copy of the images is evaluated, with the jobs for each.
        pixels: through networks, by which compiling is decided.
        numerics: of the run that is to go on; None to decide.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        marks: dict[int, tuple[EvaluationJob, ...]],
        *,
        pixels: float,
        numerics: Numerics | None = None,
    ) -> None:
        machine = config.machine
        found = look_around(
            machine.device,
            gpu_assigned=torch.cuda.is_available(),
            compiling=compiling_pays(machine, pixels),
        )
        threads = num_cores() if machine.threads == "auto" else machine.threads
        numerics = numerics or choose_numerics(machine, [found], threads=threads, pixels=pixels)
        check_numerics(numerics, [found])
        self.processors = (found.name,)
        self.plan = Plan(config=config, info=info, numerics=numerics)
        self.crew = crew_of_one(info.num_classes, gpus=int(found.device == "cuda"))
        self.where = f"one process on {found.name}, {threads} thread{'s' * (threads > 1)}"
        self.notes = (
            self.where,
            *compiling_notes(machine, [found], pixels=pixels),
        )
        self.record = Record()
        self._marks = marks
        self._images: Images
        self._queue: QueueWorker | None = None
        self._worker: ClassWorker | None = None
        self._pretrained: list[Pretrained] = []
        self._saved: RunState | None = None
        self._commits: Commits | None = None

    def enter(self, run: str) -> Export:
        """Nobody watches a single process but its own user."""
        reset_peak_memory()  # what this process did before is not this run's
        return lambda measurement: None

    def restore(self, saving: Saving) -> Iterator[Announcement]:
        """Take up the newest checkpoint that is whole, if there is one; before all else."""
        self._commits = Commits(saving)
        self._saved, problems = saving.go_back(partial(load, saving.folder))
        for problem in problems:
            yield Announcement(problem, warning=True)
        self.record = Record.of(saving.last)
        if self._saved is not None:
            self._pretrained = list(self._saved.pretrained)

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that the plan asks for on real images, if there are to be any."""
        for lesson in self.plan.pretraining[len(self._pretrained) :]:
            networks, reports = pretrain(self.plan, lesson)
            self._pretrained += networks
            yield from reports

    def start(self) -> Iterator[Announcement]:
        """Build the queue and the one worker that owns all groups; `pretrain` comes first."""
        saved = self._saved
        self._queue = QueueWorker(
            self.plan,
            *self._pretrained,
            saved=(saved.queue, saved.versions) if saved and not saved.queue.is_new else None,
        )
        self._worker = ClassWorker(
            self.plan, range(len(self.plan.groups)), saved.groups if saved else {}
        )
        self._saved = None  # they have it
        yield from ()  # nothing to tell

    def condense(self) -> Iterator[RunnerEvent]:
        """Run all iterations that are left (Alg. 1); `start` comes first."""
        iterations = self.plan.config.condense.iterations
        queue, worker = self._started()
        collector = Collector(
            iterations=iterations,
            starts=first_reports(worker.iterations, iterations),
            num_workers=1,
            at=worker.iteration,
            told=self.record.told,
        )
        reported_at = self.record.seconds
        yield from self._evaluate_copies()
        # Where classes meet, all groups are at one iteration, and its networks are its own.
        first = worker.iteration if self.plan.rounds > 1 else queue.iteration
        for iteration in range(first, iterations):
            began, matching_s = time.perf_counter(), 0.0
            for matched in self._rounds(iteration):
                collector.add_worker(matched)
                matching_s += matched.busy_s
            collector.add_queue(queue.train(iteration))
            queue.release(worker.iteration)
            self._add(time.perf_counter() - began, matching_s=matching_s)
            for progress in collector.due(self.record.seconds - reported_at):
                reported_at = self.record.seconds
                yield progress
            yield from self._evaluate_copies()
            yield from self._committing().keep(worker.iteration, self._take)
        self._images = gather_images(worker.images())
        self.record.peak_memory_bytes = max(self.record.peak_memory_bytes, peak_memory_bytes())
        yield from self.commit(within_s=None)

    def _rounds(self, iteration: int) -> Iterator[WorkerReport]:
        """Match in each round of an iteration, between which networks may be trained on all."""
        queue, worker = self._started()
        for round_ in range(self.plan.rounds):
            snapshots = queue.go_on(worker.images()) if round_ else queue.begin(iteration)
            yield worker.run_round(iteration, round_, snapshots)

    def commit(self, *, within_s: float | None) -> Iterator[Announcement | Committed]:
        """Make a checkpoint now, of all iterations that are finished; waits until it is written.

        May come in the middle of an iteration, after an exception that ended it.

        Args:
            within_s: how long to wait; None: as long as it takes.
        """
        if self._worker is not None:
            yield from self._committing().keep_now(
                self._worker.iteration, self._take, within_s=within_s
            )

    def select(self) -> Iterator[RunnerEvent]:
        """Choose real images, class by class; `pretrain` comes first."""
        began, chosen = time.perf_counter(), []
        for done, classes in enumerate(self.plan.groups, start=1):
            chosen.append(select(self.plan, classes, self._pretrained))
            yield Advanced(done, f"{len(classes)} classes")
        self._images = np.concatenate(chosen)
        self.record.seconds += time.perf_counter() - began
        self.record.peak_memory_bytes = peak_memory_bytes()

    def adopt(self, images: Images) -> None:
        """Take finished images instead of condensing some."""
        self._images = images

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[RunnerEvent]:
        """Train and test networks on images of an iteration and on what they are compared with."""
        for job in jobs:
            yield self._evaluated(job, self._images_of(job.iteration))
            if self._worker is not None:
                yield from self._committing().keep_results(self._worker.iteration, self._take)

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery into the run's folder."""
        write_results(folder, self._images, card)

    def write_selected(self, folder: Path, card: Card) -> None:
        """Write the iterate that the card is of into the run's folder."""
        write_selected(folder, self._images_of(card.iterations), card)

    def close(self) -> None:
        """Stop what goes on in the background."""
        for part in (self._queue, self._worker, self._commits):
            if part is not None:
                part.close()

    def _started(self) -> tuple[QueueWorker, ClassWorker]:
        assert self._queue is not None, "start comes first"
        assert self._worker is not None, "start comes first"
        return self._queue, self._worker

    def _committing(self) -> Commits:
        assert self._commits is not None, "restore comes first"
        return self._commits

    def _take(self, known: Collection[VersionKey]) -> tuple[RunState, Tally]:
        queue, worker = self._started()
        state, versions = queue.state(known)
        groups = worker.states(worker.iteration if self.plan.rounds > 1 else None)
        taken = RunState(groups=groups, queue=state, versions=versions, pretrained=self._pretrained)
        return taken, self.record.tally()

    def _add(self, seconds: float, *, matching_s: float) -> None:
        self.record.seconds += seconds
        self.record.busy = Busy(
            matching_s=self.record.busy.matching_s + matching_s,
            training_s=self.record.busy.training_s + seconds - matching_s,
            path_s=self.record.seconds,
        )

    def _evaluate_copies(self) -> Iterator[RunnerEvent]:
        """Evaluate the copies that were made on the way, and forget all but the best so far."""
        _, worker = self._started()
        copied = {iteration: self._marks[iteration] for iteration in worker.copied}
        for iteration, jobs in copied.items():
            if any(job not in self.record.evaluated for job in jobs):
                images = gather_images(worker.copies(iteration))
                for job in jobs:
                    yield self._evaluated(job, images)
                    yield from self._committing().keep(worker.iteration, self._take)
        # The best stays with the groups, and so in every checkpoint, whatever is killed when.
        best = best_iterate(copied, self.record.evaluated)
        for iteration in copied:
            if iteration != best:
                worker.forget(iteration)

    def _images_of(self, iteration: int) -> Images:
        """Those of a copy, as it is kept to be selected, or else the finished ones."""
        if iteration in self.plan.copy_at:
            return gather_images(self._started()[1].copies(iteration))
        return self._images

    def _evaluated(self, job: EvaluationJob, images: Images) -> Evaluated:
        if job not in self.record.evaluated:
            self.record.evaluated[job] = evaluate(self.plan, job, images)
        return Evaluated(job=job, accuracy=self.record.evaluated[job])
