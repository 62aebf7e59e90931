"""The memories of a method and an order: what a network is trained on at each step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from idm_ray.algorithm.evaluate import TrainingImages
from idm_ray.algorithm.expansion import expand
from idm_ray.data.dataset import DatasetInfo
from idm_ray.formats.stored import StoredSet
from idm_ray.results.card import Card


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Memories:
    """The memories of all steps, one after the other.

    Attributes:
        images: (N, C, H, W), normalised as the data are, unexpanded.
        labels: (N,), of the data.
        ends: for each step, how many images its memory and those before it hold.
        partition: tiles per side of an image.
    """

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    ends: tuple[int, ...]
    partition: int

    def seen(self, step: int) -> tuple[int, ...]:
        """The labels of the classes that have come up to a step, ascending."""
        return tuple(map(int, np.unique(self.labels[: self.ends[step - 1]])))

    def union(self, step: int, device: str) -> TrainingImages:
        """The memories of the steps 1 ... `step` as images to train on, expanded."""
        end = self.ends[step - 1]
        # A copy: what Ray hands to a task is read-only.
        stored = torch.from_numpy(self.images[:end].copy()).to(device)
        images = expand(stored, self.partition)
        labels = torch.from_numpy(self.labels[:end].copy()).to(device)
        labels = labels.repeat_interleave(self.partition**2)
        return TrainingImages(count=len(images), take=lambda rows: (images[rows], labels[rows]))


def put_together(
    sets: Sequence[StoredSet], steps: Sequence[Sequence[int]], info: DatasetInfo
) -> Memories:
    """The memories out of the sets that were made step by step.

    Args:
        sets: of each step, with the same partition; class c of a set is the c-th of its step.
        steps: labels of each step's classes in the data.
        info: of the data.
    """
    labels = [
        np.array(classes, dtype=np.int64)[one.labels]
        for one, classes in zip(sets, steps, strict=True)
    ]
    return Memories(
        images=np.concatenate([normalised_as(info, one.images, one.card) for one in sets]),
        labels=np.concatenate(labels),
        ends=tuple(map(int, np.cumsum([len(one.labels) for one in sets]))),
        partition=sets[0].card.partition,
    )


def normalised_as(
    info: DatasetInfo, images: NDArray[np.float32], card: Card
) -> NDArray[np.float32]:
    """Images of some classes as all classes are normalised.

    Only the whole of a data set of the literature is recognised by its classes: some of them have
    a mean and a deviation of their own, and one channel if they are grey.

    Args:
        info: of the whole data.
        images: (N, C, H, W), normalised as `card` says.
        card: of the images.

    Returns:
        (N, C, H, W) with the channels of `info`; `images` themselves where nothing differs.
    """
    if (card.mean, card.std, card.image_shape) == (info.mean, info.std, info.image_shape):
        return images

    def each_channel(values: Sequence[float]) -> NDArray[np.float64]:
        return np.array(values).reshape(-1, 1, 1)

    pixels = images * each_channel(card.std) + each_channel(card.mean)
    renewed = (pixels - each_channel(info.mean)) / each_channel(info.std)
    return renewed.astype(np.float32)
