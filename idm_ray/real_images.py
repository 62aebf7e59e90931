"""Real images as tensors: the data set as one process of a run sees it."""

import contextlib
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.evaluate import TrainingImages
from idm_ray.algorithm.model_start import draw_start
from idm_ray.algorithm.numerics import to_network_input
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.synthetic import num_start_images, start_from_noise, start_from_tiles
from idm_ray.config import DataConfig, RunConfig
from idm_ray.data.dataset import DatasetInfo, ImageDataset, Split, open_dataset
from idm_ray.data.sampling import (
    Rows,
    pretrain_batch_rows,
    random_set_rows,
    real_batch_rows,
    start_rows,
    train_batch_rows,
)
from idm_ray.data.shard_stream import CacheFiller
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError
from idm_ray.plan import Plan
from idm_ray.storage import shown


@contextlib.contextmanager
def _told_with_its_node(config: DataConfig) -> Iterator[None]:
    """Where data that the driver has seen are not to be seen, it is the node's fault: say which."""
    try:
        yield
    except DataError as error:
        raise DataError(
            f"node {platform.node()} cannot use the data {shown(config.data)!r}, which the node of "
            f"the driver can: {error}; put the same files under this path on every node, or use a "
            "URI or a volume that all nodes see"
        ) from error


def look_for_data(config: DataConfig) -> None:
    """Make sure that the data can be seen where this process is; reads no image.

    Raises:
        DataError: they cannot; names the node.
    """
    with _told_with_its_node(config):
        find_source(config)


def check_data(config: RunConfig, info: DatasetInfo) -> ImageDataset:
    """Open the data where this process is, and make sure that it is the run's data.

    Raises:
        DataError: it cannot be read here, or it is not the same.
    """
    with _told_with_its_node(config.data):
        dataset = open_dataset(config.data)
    if dataset.info.fingerprint != info.fingerprint:
        raise DataError(
            f"data {shown(config.data.data)!r} is not the same on node {platform.node()} as where "
            f"the run started: expected fingerprint {info.fingerprint[:12]}, found "
            f"{dataset.info.fingerprint[:12]}; put the same files under this path on every node"
        )
    return dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """What real images took since the report before.

    Attributes:
        waited_s: seconds in which computing waited for them.
        decoded: how many were decoded.
        bytes_read: out of shards and their index.
        notes: what people should know of, each told once.
    """

    waited_s: float = 0.0
    decoded: int = 0
    bytes_read: int = 0
    notes: tuple[str, ...] = ()


class RealImages:
    """Real images as normalised tensors on the device of a run; a context manager.

    Raises:
        DataError: the data found here is not the data of the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._waited_s = 0.0
        self._reported = DataReport()
        self._filler: CacheFiller | None = None
        self._plan = plan
        self._dataset = check_data(plan.config, plan.info)
        device = plan.numerics.device
        self._mean = torch.tensor(plan.info.mean, device=device).reshape(-1, 1, 1)
        self._std = torch.tensor(plan.info.std, device=device).reshape(-1, 1, 1)

    def matching_batch(self, step: int, label: int) -> tuple[Tensor, Tensor]:
        """Real images of a class and their weights in its mean.

        Args:
            step: of the images, counting from 0 over all rounds of all iterations.
            label: of the class.

        Returns:
            (B, C, H, W) and (B,). B is the same for all classes: a class with fewer images than
            the batch gives all of them, filled up with images of weight 0.
        """
        condense, train = self._plan.config.condense, self._dataset.train
        rows, filled = self._matching_rows(step, label)
        images = self._load(train, filled)
        steps = condense.iterations * self._plan.rounds
        if self._dataset.sharded is not None and step + 1 < steps:
            train.images.expect(self._matching_rows(step + 1, label)[1])
        weights = torch.zeros(len(filled), device=self._mean.device)
        weights[: len(rows)] = 1 / len(rows)
        return images, weights

    def training_batch(self, model: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,) for one training step of a model of the queue.

        They are of the classes that the model is bound to.
        """
        train = self._dataset.train
        rows = self._training_rows(model, step)
        return self._load(train, rows), self._labels(train, rows)

    def expect_training(self, batches: Iterable[tuple[int, int]]) -> None:
        """Prepare for training batches, (model, step), that will be asked for in this order."""
        for model, step in batches if self._dataset.sharded is not None else ():
            self._dataset.train.images.expect(self._training_rows(model, step))

    def fill_cache(self) -> None:
        """Begin to stream all training images into the cache, where they come out of shards."""
        if self._dataset.sharded is not None:
            seed = self._plan.config.condense.seed
            self._filler = self._dataset.sharded.fill_cache(seed=seed)

    def pretraining_batch(self, member: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) and labels (B,) for one training step of a pretrained network."""
        train = self._dataset.train
        rows = self._pretraining_rows(member, step)
        if self._dataset.sharded is not None:
            train.images.expect(self._pretraining_rows(member, step + 1))
        return self._load(train, rows), self._labels(train, rows)

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
        return start_from_tiles(self._load(self._dataset.train, rows), tiles)

    def random(self, label: int) -> Tensor:
        """(ipc, C, H, W): random real images of a class, whole."""
        return self.of_class(label, self.random_rows(label))

    def random_rows(self, label: int) -> Rows:
        """(ipc,) which images of a class `random` has, counted within the class."""
        condense, train = self._plan.config.condense, self._dataset.train
        rows = random_set_rows(train, label, condense.ipc, seed=condense.seed)
        return rows - train.class_rows(label).start

    def of_class(self, label: int, rows: Rows) -> Tensor:
        """(n, C, H, W): images of a class, by rows counted within it."""
        train = self._dataset.train
        return self._load(train, rows + train.class_rows(label).start)

    def whole(self) -> TrainingImages:
        """All training images."""
        train = self._dataset.train

        def take(indices: Tensor) -> tuple[Tensor, Tensor]:
            rows = indices.numpy()
            return self._load(train, rows), self._labels(train, rows)

        return TrainingImages(count=len(train.images), take=take)

    def test_batches(self, classes: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """All images that networks are tested on, of `eval_split`, and their labels.

        As many at a time as go through a network at once.

        Args:
            classes: labels; images of other classes are left out. None: all.
        """
        test, batch = self._tested(), self._plan.numerics.images_per_pass
        tested = np.arange(len(test.images))
        if classes is not None:
            tested = np.concatenate([test.class_rows(label) for label in sorted(classes)])
        batches = [tested[n : n + batch] for n in range(0, len(tested), batch)]
        for rows, following in zip_longest(batches, batches[1:]):
            if following is not None:
                test.images.expect(following)
            yield self._load(test, rows), self._labels(test, rows)
        if self._dataset.sharded is not None:
            self._dataset.sharded.test.finish_cache()

    def report(self) -> DataReport:
        """What images took since the last report."""
        sharded, before = self._dataset.sharded, self._reported
        now = DataReport(
            waited_s=self._waited_s,
            decoded=sharded.train.images_decoded if sharded else 0,
            bytes_read=sharded.bytes_read if sharded else 0,
            notes=sharded.notes if sharded else (),
        )
        self._reported = now
        return DataReport(
            waited_s=now.waited_s - before.waited_s,
            decoded=now.decoded - before.decoded,
            bytes_read=now.bytes_read - before.bytes_read,
            notes=now.notes[len(before.notes) :],
        )

    def __enter__(self) -> "RealImages":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what goes on in the background."""
        if self._filler is not None:
            self._filler.stop()
        if self._dataset.sharded is not None:
            self._dataset.sharded.close()

    def _matching_rows(self, step: int, label: int) -> tuple[Rows, Rows]:
        """Rows of a class's images in a step, and these filled up to a full batch."""
        condense = self._plan.config.condense
        rows = real_batch_rows(
            self._dataset.train, label, condense.batch_real, seed=condense.seed, iteration=step
        )
        return rows, np.resize(rows, min(condense.batch_real, max(self._plan.info.train_counts)))

    def _training_rows(self, model: int, step: int) -> Rows:
        queue, seed = self._plan.config.queue, self._plan.config.condense.seed
        start = draw_start(queue, model, num_classes=self._plan.info.num_classes, seed=seed)
        return train_batch_rows(
            self._dataset.train,
            queue.batch_train,
            classes=start.classes,
            seed=seed,
            model=model,
            step=step,
        )

    def _pretraining_rows(self, member: int, step: int) -> Rows:
        queue, seed = self._plan.config.queue, self._plan.config.condense.seed
        return pretrain_batch_rows(
            self._dataset.train, queue.batch_train, seed=seed, member=member, step=step
        )

    def _tested(self) -> Split:
        if self._plan.config.evaluation.eval_split == "test":
            return self._dataset.test
        assert self._dataset.validation is not None, "the config was checked"
        return self._dataset.validation

    def _load(self, split: Split, rows: Rows) -> Tensor:
        began = time.perf_counter()
        pixels = torch.from_numpy(split.images.take(rows))
        self._waited_s += time.perf_counter() - began
        return to_network_input(pixels.to(self._mean.device), self._mean, self._std)

    def _labels(self, split: Split, rows: Rows) -> Tensor:
        # Rows are sorted by class.
        labels = np.searchsorted(split.offsets, rows, side="right") - 1
        return torch.from_numpy(labels).to(self._mean.device)
