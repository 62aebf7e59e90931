"""One training step of a network: the same for the queue's networks and for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.algorithm.sgd import sgd_step_
from idm_ray.algorithm.spans import span
from idm_ray.config import MOMENTUM_NET, WEIGHT_DECAY_NET


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainMetrics:
    """Counts over some training images, before the steps that they led to.

    Attributes:
        images: images seen.
        correct: images that were classified correctly.
        loss: cross-entropy, summed over images.
    """

    images: int = 0
    correct: int = 0
    loss: float = 0.0

    def __add__(self, other: "TrainMetrics") -> "TrainMetrics":
        """Counts of both."""
        return TrainMetrics(
            images=self.images + other.images,
            correct=self.correct + other.correct,
            loss=self.loss + other.loss,
        )

    @classmethod
    def total(cls, steps: Sequence[tuple[int, Tensor]]) -> "TrainMetrics":
        """Sum what `train_step` returned; the device is waited for once, here."""
        counts = torch.stack([counts for _, counts in steps]).sum(dim=0).tolist()
        return cls(images=sum(n for n, _ in steps), correct=int(counts[0]), loss=counts[1])


def train_step(
    network: FlatNetwork,
    images: Tensor,
    labels: Tensor,
    velocity: Tensor,
    *,
    lr: float,
    momentum: float = MOMENTUM_NET,
    weight_decay: float = WEIGHT_DECAY_NET,
) -> tuple[int, Tensor]:
    """One SGD step on the mean cross-entropy of a batch.

    Args:
        network: its weights are changed in place; they must require gradients.
        images: (B, C, H, W) float32, normalised.
        labels: (B,) int64.
        velocity: (P,) of the optimiser, changed in place.
        lr: learning rate.
        momentum: in [0, 1); that of Sec. 5.1, as the weight decay, unless told otherwise.
        weight_decay: L2 penalty.

    Returns:
        B, and a tensor of two on the device: correct predictions before the step, summed loss.
    """
    with span("training"):
        gradient, counts = torch.zeros_like(network.weights), torch.zeros(2, dtype=torch.float64)
        counts = counts.to(network.weights.device)
        for part, targets in zip(network.parts(images), network.parts(labels), strict=True):
            logits = network.logits(part)
            loss = F.cross_entropy(logits, targets, reduction="sum")
            gradient += network.gradient(loss / len(labels))
            correct = (logits.argmax(dim=1) == targets).sum()
            counts += torch.stack([correct.double(), loss.detach().double()])
    with span("optimiser"):
        sgd_step_(
            network.weights,
            gradient,
            velocity,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
        )
    return len(labels), counts
