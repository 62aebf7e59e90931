"""The plain parts of a run, put together from a plan: what both runners run.

Each process opens the data by itself (a node's processes share the decoded cache) and builds only
its own parts; what passes between them are snapshots, reports and finished images.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch

from idm_ray.algorithm.class_group import ClassGroup, GroupReport
from idm_ray.algorithm.matcher import Classes
from idm_ray.algorithm.model_server import ModelServer, QueueReport, Snapshot
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.round_networks import RoundNetworks
from idm_ray.algorithm.state import (
    FloatArray,
    GroupState,
    ModelVersion,
    Pretrained,
    QueueState,
    VersionKey,
)
from idm_ray.host import keep_freed_memory, user_cache
from idm_ray.machine import peak_memory_bytes
from idm_ray.plan import Lesson, Plan
from idm_ray.pretrained import PretrainReport, pretrained_networks
from idm_ray.real_images import DataReport, RealImages

Images = FloatArray
SavedQueue = tuple[QueueState, Mapping[VersionKey, ModelVersion]]
"""The queue, and the weights and velocities of all its networks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """What a class worker did in one call.

    Attributes:
        groups: losses of each of its groups.
        busy_s: seconds from the call's start to its end.
        data: what its images took.
    """

    groups: tuple[GroupReport, ...]
    busy_s: float
    data: DataReport = field(default_factory=DataReport)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueWorkerReport:
    """What the queue worker did in one call.

    Attributes:
        iterations: the queue at each iteration whose training is over.
        busy_s: seconds from the call's start to its end.
        data: what its images took.
    """

    iterations: tuple[QueueReport, ...]
    busy_s: float
    data: DataReport = field(default_factory=DataReport)


def prepare_process(numerics: Numerics) -> None:
    """Settings of torch that hold for the whole process."""
    torch.set_num_threads(numerics.threads)
    keep_freed_memory()
    if numerics.device == "cuda" and numerics.compile:
        # Compiled code outlives the process and, unlike in torch's default folder, the machine.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(user_cache() / "inductor"))
        # Every batch shape is compiled by itself. A process that lives long sees more than the 8
        # that torch takes by default, and would go on uncompiled without a word.
        torch._dynamo.config.recompile_limit = 64


def pretrain(
    plan: Plan, lesson: Lesson
) -> tuple[tuple[Pretrained, ...], tuple[PretrainReport, ...]]:
    """A network trained on real images whenever it is looked at, and what is told of each look."""
    prepare_process(plan.numerics)
    networks, reports = zip(*pretrained_networks(plan, lesson), strict=True)
    return networks, reports


class QueueWorker:
    """Owns the networks to match, those of the model queue or those of each iteration's rounds.

    Args:
        plan: of the run.
        pretrained: the whole set that the plan asks for, by number.
        saved: where to go on; None to begin.
    """

    def __init__(
        self, plan: Plan, *pretrained: Pretrained, saved: SavedQueue | None = None
    ) -> None:
        prepare_process(plan.numerics)
        self._real = RealImages(plan)
        self._real.fill_cache()
        self._device = plan.numerics.device
        self._server = _networks(plan, self._real, pretrained)
        if saved is not None:
            self._server.restore(*saved)
        self._iteration = saved[0].iteration if saved else 0
        self._iterations = plan.config.condense.iterations
        self._untrained: int | None = None

    def begin(self, iteration: int) -> tuple[Snapshot, ...]:
        """Advance the queue; the networks to match in this iteration."""
        snapshots = self._server.begin(iteration)
        self._real.expect_training(self._server.due())
        return snapshots

    def go_on(self, *parts: Mapping[int, Images]) -> tuple[Snapshot, ...]:
        """The networks of the iteration's next round, trained on all images there are by now.

        Args:
            parts: images of the groups of each worker.
        """
        assert isinstance(self._server, RoundNetworks), "an iteration has several rounds"
        images = torch.from_numpy(gather_images(*parts))
        return self._server.go_on(images.to(self._device))

    def train(self, iteration: int) -> QueueWorkerReport:
        """Train the networks chosen for this iteration."""
        began = time.perf_counter()
        report = self._train(iteration)
        busy_s = time.perf_counter() - began
        return QueueWorkerReport(iterations=(report,), busy_s=busy_s, data=self._real.report())

    def serve(
        self, first: int, last: int, *, needed: int
    ) -> tuple[Sequence[Sequence[Snapshot]], QueueWorkerReport]:
        """The networks to match in iterations `first` to `last - 1`.

        An iteration's training is put off until the next one is asked for, so that nobody waits
        for training that does not concern them.

        Args:
            first: iteration.
            last: iteration after those.
            needed: iteration that every class has come to: states before it are forgotten.
        """
        began = time.perf_counter()
        self.release(needed)
        sequence: list[Sequence[Snapshot]] = []
        reports: list[QueueReport] = []
        for iteration in range(first, last):
            reports += self._catch_up()
            sequence.append(self.begin(iteration))
            self._untrained = iteration
        busy_s = time.perf_counter() - began
        return sequence, QueueWorkerReport(
            iterations=tuple(reports), busy_s=busy_s, data=self._real.report()
        )

    def serve_round(
        self, iteration: int, round_: int, *parts: Mapping[int, Images]
    ) -> tuple[tuple[Snapshot, ...], QueueWorkerReport]:
        """The networks to match in a round of an iteration.

        Args:
            iteration: that every class has come to.
            round_: counting from 0.
            parts: images of the groups of each worker after the round before; none for the first.
        """
        began = time.perf_counter()
        reports: tuple[QueueReport, ...] = ()
        if round_ == 0:
            self.release(iteration)
            reports = tuple(self._catch_up())
            snapshots = self.begin(iteration)
            self._untrained = iteration
        else:
            snapshots = self.go_on(*parts)
        busy_s = time.perf_counter() - began
        return snapshots, QueueWorkerReport(
            iterations=reports, busy_s=busy_s, data=self._real.report()
        )

    def finish(self) -> QueueWorkerReport:
        """The training that was put off."""
        began = time.perf_counter()
        reports = tuple(self._catch_up())
        busy_s = time.perf_counter() - began
        return QueueWorkerReport(iterations=reports, busy_s=busy_s, data=self._real.report())

    def release(self, iteration: int) -> None:
        """Forget states before an iteration that every class has come to."""
        self._server.release(iteration)

    @property
    def iteration(self) -> int:
        """The next iteration, counting from 0."""
        return self._iteration

    def state(
        self, known: Collection[VersionKey] = ()
    ) -> tuple[QueueState, dict[VersionKey, ModelVersion]]:
        """The earliest state that is not forgotten, without the weights of known networks.

        May be called from another thread meanwhile.
        """
        return self._server.state(known)

    def close(self) -> None:
        """Stop what goes on in the background."""
        self._real.close()

    def _catch_up(self) -> Iterator[QueueReport]:
        if self._untrained is not None:
            yield self._train(self._untrained)
            self._untrained = None

    def _train(self, iteration: int) -> QueueReport:
        if iteration + 1 < self._iterations:
            self._real.expect_training(self._server.due_after(iteration))
        self._iteration = iteration + 1
        return self._server.train(iteration)

    def peak_memory_bytes(self) -> int:
        """Largest own memory of this process so far."""
        return peak_memory_bytes()


def _networks(
    plan: Plan, real: RealImages, pretrained: Sequence[Pretrained]
) -> ModelServer | RoundNetworks:
    condense = plan.config.condense
    if plan.matching.rounds is None:
        return ModelServer(
            plan.config.queue,
            plan.build_network(),
            plan.numerics,
            real.training_batch,
            num_matched_models=condense.num_matched_models,
            seed=condense.seed,
            pretrained=pretrained,
        )
    return RoundNetworks(
        plan.config.queue,
        plan.build_network(),
        plan.numerics,
        operations=plan.matched_operations,
        num_matched_models=condense.num_matched_models,
        inner_epochs=int(condense.inner_epochs),
        seed=condense.seed,
    )


class ClassWorker:
    """Owns whole groups of classes: their synthetic images and optimisers.

    Args:
        plan: of the run.
        groups: numbers of the groups it owns.
        saved: where each of them is to go on; empty to begin.
    """

    def __init__(
        self,
        plan: Plan,
        groups: Sequence[int],
        saved: Mapping[int, GroupState] = MappingProxyType({}),
    ) -> None:
        prepare_process(plan.numerics)
        self._real = RealImages(plan)
        network = FlatNetwork(plan.build_network(), plan.numerics)
        self._groups = {g: self._make_group(plan, plan.groups[g], network) for g in groups}
        for number, state in saved.items():
            self._groups[number].restore(state)

    @property
    def iterations(self) -> list[int]:
        """The next iteration of each group."""
        return [group.iteration for group in self._groups.values()]

    @property
    def iteration(self) -> int:
        """The next iteration of the group that is furthest behind."""
        return min(self.iterations)

    @property
    def copied(self) -> list[int]:
        """After how many iterations there are copies of all groups."""
        return sorted(set.intersection(*(set(g.copied) for g in self._groups.values())))

    def run(self, first_iteration: int, sequence: Sequence[Sequence[Snapshot]]) -> WorkerReport:
        """Some iterations of one round of all its groups, one for each element of `sequence`."""
        return self._run(lambda group: group.run(first_iteration, sequence))

    def run_round(self, iteration: int, round_: int, snapshots: Sequence[Snapshot]) -> WorkerReport:
        """One round of an iteration of all its groups."""
        return self._run(lambda group: group.run_round(iteration, round_, snapshots))

    def _run(self, step: Callable[[ClassGroup], GroupReport]) -> WorkerReport:
        began = time.perf_counter()
        reports = tuple(step(group) for group in self._groups.values())
        busy_s = time.perf_counter() - began
        return WorkerReport(groups=reports, busy_s=busy_s, data=self._real.report())

    def close(self) -> None:
        """Stop what goes on in the background."""
        self._real.close()

    def states(self, at: int | None = None) -> dict[int, GroupState]:
        """Each group as it was after its last finished iteration.

        May be called from another thread meanwhile.

        Args:
            at: the iteration that all of them are to be before, where groups meet; those that
                are too far from it to tell are missing.
        """
        found = {number: group.state(at) for number, group in self._groups.items()}
        return {number: state for number, state in found.items() if state is not None}

    def images(self) -> dict[int, Images]:
        """The synthetic images of each group, (I, ipc, C, H, W) by group number."""
        return {number: group.images.cpu().numpy() for number, group in self._groups.items()}

    def copies(self, iteration: int) -> dict[int, Images]:
        """The same as they were after so many iterations, where the plan has them copied."""
        return {number: group.copy(iteration) for number, group in self._groups.items()}

    def forget(self, iteration: int) -> None:
        """Drop these copies."""
        for group in self._groups.values():
            group.forget(iteration)

    def peak_memory_bytes(self) -> int:
        """Largest own memory of this process so far."""
        return peak_memory_bytes()

    def _make_group(self, plan: Plan, classes: Sequence[int], network: FlatNetwork) -> ClassGroup:
        matched = Classes(
            labels=tuple(classes),
            config=plan.config.condense,
            operations=plan.matched_operations,
            network=network,
            real_batches=self._real.matching_batch,
        )
        return ClassGroup(
            plan.config.condense,
            classes,
            num_classes=plan.info.num_classes,
            matcher=plan.matching.matcher(matched),
            start=torch.stack([self._real.start(label) for label in classes]),
            rounds=plan.rounds,
            copy_at=plan.copy_at,
        )


def gather_images(*parts: Mapping[int, Images]) -> Images:
    """All synthetic images, (num_classes * ipc, C, H, W), sorted by class, from all workers."""
    groups = {n: images for part in parts for n, images in part.items()}
    return np.concatenate([groups[n].reshape(-1, *groups[n].shape[2:]) for n in sorted(groups)])
