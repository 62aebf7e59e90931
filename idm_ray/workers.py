"""The plain parts of a run, put together from a plan: what both runners run.

Each process opens the data by itself (a node's processes share the decoded cache) and builds only
its own parts; what passes between them are snapshots, reports and finished images.
"""

import dataclasses
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.augment import allowed_operations
from idm_ray.algorithm.class_group import ClassGroup, GroupReport
from idm_ray.algorithm.evaluate import Protocol, TrainingImages, accuracy, fit, paper_protocol
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.model_server import ModelServer, QueueReport, Snapshot
from idm_ray.algorithm.networks import build_network, init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics, to_network_input
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.synthetic import num_start_images, start_from_noise, start_from_tiles
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo, ImageDataset, open_dataset
from idm_ray.data.sampling import random_set_rows, real_batch_rows, start_rows, train_batch_rows
from idm_ray.errors import DataError
from idm_ray.layout import cut_groups
from idm_ray.machine import peak_memory_bytes
from idm_ray.results.card import Card
from idm_ray.results.condensed import write_condensed
from idm_ray.results.gallery import write_gallery
from idm_ray.results.run_folder import RunFolder

Images = np.ndarray[Any, np.dtype[np.float32]]

TEST_BATCH = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that a process needs to build its part of a run.

    Attributes:
        config: settled: network and groups are decided.
        info: of the data; its fingerprint is checked by everyone who opens the data.
        numerics: decided for the whole run.
    """

    config: RunConfig
    info: DatasetInfo
    numerics: Numerics

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Labels of each group's classes."""
        size = self.config.condense.classes_per_group
        assert isinstance(size, int), "the config is settled"
        return cut_groups(self.info.num_classes, size)

    @property
    def operations(self) -> tuple[str, ...]:
        """Augmentations that keep the class."""
        return allowed_operations(self.info.flips)

    def build_network(self) -> Any:
        """The run's network, unallocated."""
        return build_network(
            self.config.condense.network, self.info.image_shape, self.info.num_classes
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationJob:
    """One network to train and test.

    Attributes:
        subject: the condensed images; where they started; random real images; all real images.
        repeat: which of the networks.
        iteration: of the condensed images.
    """

    subject: Literal["condensed", "start", "random", "whole"]
    repeat: int
    iteration: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerReport:
    """What a class worker did in one call.

    Attributes:
        groups: losses of each of its groups.
        busy_s: seconds from the call's start to its end.
    """

    groups: tuple[GroupReport, ...]
    busy_s: float


def check_data(config: RunConfig, info: DatasetInfo) -> ImageDataset:
    """Open the data where this process is, and make sure that it is the run's data.

    Raises:
        DataError: it cannot be read here, or it is not the same.
    """
    dataset = open_dataset(config.data)
    if dataset.info.fingerprint != info.fingerprint:
        raise DataError(
            f"data {config.data.data!r} is not the same on node {platform.node()} as where the run "
            f"started: expected fingerprint {info.fingerprint[:12]}, found "
            f"{dataset.info.fingerprint[:12]}; put the same files under this path on every node"
        )
    return dataset


class RealImages:
    """Real images as normalised tensors on the device of a run.

    Raises:
        DataError: the data found here is not the data of the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._dataset = check_data(plan.config, plan.info)
        device = plan.numerics.device
        self._mean = torch.tensor(plan.info.mean, device=device).reshape(-1, 1, 1)
        self._std = torch.tensor(plan.info.std, device=device).reshape(-1, 1, 1)

    def matching_batch(self, iteration: int, label: int) -> tuple[Tensor, Tensor]:
        """Real images of a class and their weights in its mean.

        Returns:
            (B, C, H, W) and (B,). B is the same for all classes: a class with fewer images than
            the batch gives all of them, filled up with images of weight 0.
        """
        condense, train = self._plan.config.condense, self._dataset.train
        rows = real_batch_rows(
            train, label, condense.batch_real, seed=condense.seed, iteration=iteration
        )
        batch = min(condense.batch_real, max(self._plan.info.train_counts))
        weights = torch.zeros(batch, device=self._mean.device)
        weights[: len(rows)] = 1 / len(rows)
        return self._load(train.images, np.resize(rows, batch)), weights

    def training_batch(self, model: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,) for one training step of a model of the queue."""
        train = self._dataset.train
        rows = train_batch_rows(
            train,
            self._plan.config.queue.batch_train,
            seed=self._plan.config.condense.seed,
            model=model,
            step=step,
        )
        return self._load(train.images, rows), self._labels(train.labels[rows])

    def start(self, label: int) -> Tensor:
        """(ipc, C, H, W): the first synthetic images of a class."""
        condense = self._plan.config.condense
        if condense.start == "noise":
            draws = generator(condense.seed, "noise", label)
            return start_from_noise(condense.ipc, self._plan.info.image_shape, draws).to(
                self._mean.device
            )
        tiles = condense.partition if condense.start == "tiles" else 1
        count = num_start_images(condense.start, condense.ipc, tiles)
        rows = start_rows(self._dataset.train, label, count, seed=condense.seed)
        return start_from_tiles(self._load(self._dataset.train.images, rows), tiles)

    def random(self, label: int) -> Tensor:
        """(ipc, C, H, W): random real images of a class, whole."""
        condense = self._plan.config.condense
        rows = random_set_rows(self._dataset.train, label, condense.ipc, seed=condense.seed)
        return self._load(self._dataset.train.images, rows)

    def whole(self) -> TrainingImages:
        """All training images."""
        train = self._dataset.train

        def take(indices: Tensor) -> tuple[Tensor, Tensor]:
            rows = indices.numpy()
            return self._load(train.images, rows), self._labels(train.labels[rows])

        return TrainingImages(count=len(train.images), take=take)

    def test_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All test images and labels."""
        test = self._dataset.test
        for first in range(0, len(test.images), TEST_BATCH):
            rows = np.arange(first, min(first + TEST_BATCH, len(test.images)))
            yield self._load(test.images, rows), self._labels(test.labels[rows])

    def _load(self, images: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows]))
        return to_network_input(pixels.to(self._mean.device), self._mean, self._std)

    def _labels(self, labels: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(labels).to(self._mean.device)


class QueueWorker:
    """Owns the model queue and its networks.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Plan) -> None:
        torch.set_num_threads(plan.numerics.threads)
        self._server = ModelServer(
            plan.config.queue,
            plan.build_network(),
            plan.numerics,
            RealImages(plan).training_batch,
            num_matched_models=plan.config.condense.num_matched_models,
            seed=plan.config.condense.seed,
        )

    def begin(self, iteration: int) -> tuple[Snapshot, ...]:
        """Advance the queue; the networks to match in this iteration."""
        return self._server.begin(iteration)

    def train(self, iteration: int) -> QueueReport:
        """Train the networks chosen for this iteration."""
        return self._server.train(iteration)

    def peak_memory_bytes(self) -> int:
        """Largest own memory of this process so far."""
        return peak_memory_bytes()


class ClassWorker:
    """Owns whole groups of classes: their synthetic images and optimisers.

    Args:
        plan: of the run.
        groups: numbers of the groups it owns.
    """

    def __init__(self, plan: Plan, groups: Sequence[int]) -> None:
        torch.set_num_threads(plan.numerics.threads)
        self._real = RealImages(plan)
        network = FlatNetwork(plan.build_network(), plan.numerics).freeze()
        self._groups = {g: self._make_group(plan, plan.groups[g], network) for g in groups}

    def run(self, first_iteration: int, *sequence: Sequence[Snapshot]) -> WorkerReport:
        """Some iterations of all its groups, one for each element of `sequence`."""
        began = time.perf_counter()
        reports = tuple(g.run(first_iteration, sequence) for g in self._groups.values())
        return WorkerReport(groups=reports, busy_s=time.perf_counter() - began)

    def images(self) -> dict[int, Images]:
        """A copy of the synthetic images of each group, (I, ipc, C, H, W) by group number."""
        return {n: g.images.cpu().numpy().copy() for n, g in self._groups.items()}

    def peak_memory_bytes(self) -> int:
        """Largest own memory of this process so far."""
        return peak_memory_bytes()

    def _make_group(self, plan: Plan, classes: Sequence[int], network: FlatNetwork) -> ClassGroup:
        return ClassGroup(
            plan.config.condense,
            classes,
            num_classes=plan.info.num_classes,
            operations=plan.operations,
            network=network,
            real_batches=self._real.matching_batch,
            start=torch.stack([self._real.start(label) for label in classes]),
        )


def gather_images(*parts: dict[int, Images]) -> Images:
    """All synthetic images, (num_classes * ipc, C, H, W), sorted by class, from all workers."""
    groups = {n: images for part in parts for n, images in part.items()}
    return np.concatenate([groups[n].reshape(-1, *groups[n].shape[2:]) for n in sorted(groups)])


def evaluate(plan: Plan, job: EvaluationJob, condensed: Images | None = None) -> float:
    """Train one fresh network and test it.

    Args:
        plan: of the run.
        job: what to train on, and which repeat.
        condensed: (N, C, H, W) for the subject "condensed".

    Returns:
        Accuracy on the test images, a fraction.
    """
    torch.set_num_threads(plan.numerics.threads)
    real = RealImages(plan)
    device = torch.device(plan.numerics.device)
    # Repeats of all subjects start from the same networks, so that their differences are paired.
    key = (plan.config.condense.seed, "evaluate", job.repeat)
    network = plan.build_network().to_empty(device=device)
    init_parameters(network, generator(*key, "init"))
    images = _training_images(plan, job, real, condensed)
    forward = fit(network, images, _protocol(plan, job), plan.numerics, key)
    return accuracy(forward, real.test_batches())


def write_results(folder: Path, images: Images, card: Card) -> None:
    """Write the condensed set and its gallery.

    Args:
        folder: of the run.
        images: (N, C, H, W) normalised, sorted by class.
        card: what the set says of itself.
    """
    labels = np.repeat(np.arange(len(card.class_names)), card.ipc)
    run = RunFolder(folder)
    write_condensed(run.condensed_path, images=images, labels=labels, card=card)
    write_gallery(
        run.gallery_path,
        images=images,
        labels=labels,
        class_names=card.class_names,
        mean=card.mean,
        std=card.std,
        title=f"{card.source['name']}, {card.method}, {card.ipc} per class",
    )


def _training_images(
    plan: Plan, job: EvaluationJob, real: RealImages, condensed: Images | None
) -> TrainingImages:
    if job.subject == "whole":
        return real.whole()
    labels = range(plan.info.num_classes)
    partition = plan.config.condense.partition
    if job.subject == "random":
        stored, partition = torch.cat([real.random(label) for label in labels]), 1
    elif job.subject == "start":
        stored = torch.cat([real.start(label) for label in labels])
    else:
        assert condensed is not None, "the subject is the condensed images"
        stored = torch.from_numpy(condensed.copy()).to(plan.numerics.device)
    images = expand(stored, partition)
    per_class = len(images) // plan.info.num_classes
    targets = torch.arange(plan.info.num_classes, device=images.device)
    targets = targets.repeat_interleave(per_class)
    return TrainingImages(count=len(images), take=lambda rows: (images[rows], targets[rows]))


def _protocol(plan: Plan, job: EvaluationJob) -> Protocol:
    evaluation, queue = plan.config.evaluation, plan.config.queue
    whole = job.subject == "whole"
    protocol = paper_protocol(
        evaluation.whole_epochs if whole else evaluation.eval_epochs,
        lr_net=queue.lr_net,
        batch_train=queue.batch_train,
        operations=plan.operations,
    )
    if whole:
        return dataclasses.replace(protocol, drop_epoch=(evaluation.whole_epochs + 1) // 2)
    return protocol
