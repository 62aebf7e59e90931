"""How good a set of images is: train fresh networks on it, test them on real test images (5.1)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idm_ray.algorithm.augment import augment, draw_per_image
from idm_ray.algorithm.cutmix import Mix, draw_mix
from idm_ray.algorithm.networks import ConvNet
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.protocols import Protocol
from idm_ray.algorithm.randomness import generator
from idm_ray.config import MOMENTUM_NET, WEIGHT_DECAY_NET


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingImages:
    """Training images by index.

    Attributes:
        count: how many there are.
        take: indices (B,) int64 -> normalised images (B, C, H, W) and labels (B,), on the device.
    """

    count: int
    take: Callable[[Tensor], tuple[Tensor, Tensor]]


def fit(
    network: nn.Module,
    images: TrainingImages,
    protocol: Protocol,
    numerics: Numerics,
    key: Sequence[int | str],
) -> Callable[[Tensor], Tensor]:
    """Train a network in place.

    Args:
        network: initialised, on the device of `numerics`.
        images: to train on.
        protocol: how.
        numerics: arithmetic.
        key: names the random draws of this training.

    Returns:
        The network as a function from normalised images to logits, in the same arithmetic.
    """
    forward = numerics.logits(network)
    # Networks of the user may look at a batch as a whole, as batch norms do.
    cut = numerics.parts if isinstance(network, ConvNet) else lambda batch: (batch,)
    network.train()
    optimizer = _optimizer(network)
    for epoch in range(protocol.epochs):
        if protocol.begins_anew(epoch):
            optimizer = _optimizer(network)
        optimizer.param_groups[0]["lr"] = protocol.lr(epoch)
        draws = generator(*key, epoch)
        order = torch.randperm(images.count, generator=draws)
        for rows in order.split(protocol.batch_train):
            batch, labels = images.take(rows)
            batch, mix = _prepared(batch, protocol, draws)
            partners = labels if mix is None else labels[mix.partners.to(labels.device)]
            share = 1.0 if mix is None else mix.share
            optimizer.zero_grad()
            for part, own, other in zip(cut(batch), cut(labels), cut(partners), strict=True):
                logits = forward(part)
                loss = share * F.cross_entropy(logits, own, reduction="sum")
                if mix is not None:
                    loss = loss + (1 - share) * F.cross_entropy(logits, other, reduction="sum")
                (loss / len(labels)).backward()
            optimizer.step()
    network.eval()
    return forward


@torch.no_grad()
def accuracy(
    forward: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]
) -> float:
    """Share of images classified correctly, in [0, 1].

    Args:
        forward: normalised images (B, C, H, W) -> logits (B, K).
        batches: images and labels (B,), together the whole test set.
    """
    correct, seen = 0, 0
    for images, labels in batches:
        correct += int((forward(images).argmax(dim=1) == labels).sum())
        seen += len(labels)
    return correct / seen


def _prepared(
    batch: Tensor, protocol: Protocol, draws: torch.Generator
) -> tuple[Tensor, Mix | None]:
    """A batch as it is trained on: augmented, and mixed if that is drawn."""
    if protocol.operations:
        params = draw_per_image(protocol.operations, len(batch), draws)
        batch = augment(batch.unsqueeze(1), params).squeeze(1)
    if protocol.cutmix and torch.rand(1, generator=draws).item() < protocol.cutmix:
        mix = draw_mix(len(batch), batch.shape[2], batch.shape[3], draws)
        return mix.apply(batch), mix
    return batch, None


def _optimizer(network: nn.Module) -> torch.optim.SGD:
    """Sec. 5.1; each epoch sets its own learning rate."""
    return torch.optim.SGD(
        network.parameters(), momentum=MOMENTUM_NET, weight_decay=WEIGHT_DECAY_NET
    )
