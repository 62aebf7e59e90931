"""What a matcher is: it tells at every step which way the images of some classes should go.

A method has one; `ClassGroup` keeps the images and takes the steps.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.config import CondenseConfig

RealBatches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(step, class) -> normalised images (B, C, H, W) and their weights in the mean (B,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """What a matcher is made of.

    Attributes:
        labels: of the classes, I of them.
        config: of the condensation.
        operations: augmentations to draw from; none: images are matched as they are.
        network: may be shared with other matchers of the same process.
        real_batches: real images to match.
    """

    labels: tuple[int, ...]
    config: CondenseConfig
    operations: tuple[str, ...]
    network: FlatNetwork
    real_batches: RealBatches


class Matcher(Protocol):
    """Compares the synthetic images of some classes with real ones."""

    def gradient(
        self, step: int, images: Tensor, snapshots: Sequence[Snapshot]
    ) -> tuple[Tensor, Tensor]:
        """Which way the images go up.

        Args:
            step: counting from 0; names all that is drawn.
            images: (I, ipc, C, H, W), normalised; not to be changed.
            snapshots: the networks to match on, whose losses are averaged.

        Returns:
            The gradient of each class's own loss, of the shape of the images; and (2, I), the loss
            of matching and what else there is, without gradients.
        """


MakeMatcher = Callable[[Classes], Matcher]


def weights_of(snapshot: Snapshot) -> Tensor:
    """The weights over an array that may be a read-only view of shared memory; only to be read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(snapshot.weights)
