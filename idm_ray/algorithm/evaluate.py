"""How good a set of images is: train fresh networks on it, test them on real test images (5.1)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idm_ray.algorithm.augment import augment, draw_per_image
from idm_ray.algorithm.networks import ConvNet
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.config import MOMENTUM_NET, WEIGHT_DECAY_NET


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a network is trained for evaluation.

    Attributes:
        epochs: passes over the training images.
        drop_epoch: first epoch with a tenth of the learning rate and a new optimiser.
        lr_net: learning rate.
        batch_train: images per step; the last batch of an epoch may be smaller.
        operations: augmentations, one drawn per batch; none switches augmentation off.
    """

    epochs: int
    drop_epoch: int
    lr_net: float
    batch_train: int
    operations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingImages:
    """Training images by index.

    Attributes:
        count: how many there are.
        take: indices (B,) int64 -> normalised images (B, C, H, W) and labels (B,), on the device.
    """

    count: int
    take: Callable[[Tensor], tuple[Tensor, Tensor]]


def paper_protocol(
    epochs: int, *, lr_net: float, batch_train: int, operations: Sequence[str]
) -> Protocol:
    """The paper's: 1000 epochs with augmentation, the learning rate drops from epoch 502 on.

    Source: Sec. 5.1; the drop as in the authors' published code.
    """
    return Protocol(
        epochs=epochs,
        drop_epoch=epochs // 2 + 2,
        lr_net=lr_net,
        batch_train=batch_train,
        operations=tuple(operations),
    )


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
    optimizer = _optimizer(network, protocol.lr_net)
    for epoch in range(protocol.epochs):
        if epoch == protocol.drop_epoch:
            optimizer = _optimizer(network, protocol.lr_net * 0.1)
        draws = generator(*key, epoch)
        order = torch.randperm(images.count, generator=draws)
        for rows in order.split(protocol.batch_train):
            batch, labels = images.take(rows)
            if protocol.operations:
                params = draw_per_image(protocol.operations, len(batch), draws)
                batch = augment(batch.unsqueeze(1), params).squeeze(1)
            optimizer.zero_grad()
            for part, targets in zip(cut(batch), cut(labels), strict=True):
                loss = F.cross_entropy(forward(part), targets, reduction="sum") / len(labels)
                loss.backward()
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


def _optimizer(network: nn.Module, lr: float) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(), lr=lr, momentum=MOMENTUM_NET, weight_decay=WEIGHT_DECAY_NET
    )
