"""Protocols of evaluation: how the networks are trained whose test accuracy is a set's figure.

Figures are comparable within one protocol only, so every figure names its own.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from idm_ray.config import PROTOCOLS


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How a network is trained for evaluation.

    Attributes:
        epochs: passes over the training images.
        schedule: of the learning rate. drop: a tenth from `drop_epoch` on, with a new optimiser;
            cosine: half a cosine from `lr_net` down to 0 over all epochs.
        drop_epoch: first epoch after the drop; of no meaning for cosine.
        lr_net: learning rate at the beginning.
        batch_train: images per step; the last batch of an epoch may be smaller.
        operations: augmentations, one drawn per batch; none switches augmentation off.
        cutmix: probability that a batch is mixed by CutMix, after augmentation.
    """

    epochs: int
    schedule: Literal["drop", "cosine"] = "drop"
    drop_epoch: int
    lr_net: float
    batch_train: int
    operations: tuple[str, ...]
    cutmix: float = 0.0

    def lr(self, epoch: int) -> float:
        """Learning rate of an epoch, from 0."""
        if self.schedule == "cosine":
            return self.lr_net * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return self.lr_net * (0.1 if epoch >= self.drop_epoch else 1.0)

    def begins_anew(self, epoch: int) -> bool:
        """Whether an epoch begins with a new optimiser: the momentum is dropped."""
        return self.schedule == "drop" and epoch == self.drop_epoch


def named_protocol(
    name: str, epochs: int, *, lr_net: float, batch_train: int, operations: Sequence[str]
) -> Protocol:
    """The protocol of a name, for any number of epochs.

    Args:
        name: of `idm_ray.config.PROTOCOLS`.
        epochs: passes over the training images; the schedule is stretched to them.
        lr_net: learning rate.
        batch_train: images per step.
        operations: augmentations that keep the class; a protocol without augmentation drops them.
    """
    plain = Protocol(
        epochs=epochs,
        drop_epoch=epochs // 2 + 2,
        lr_net=lr_net,
        batch_train=batch_train,
        operations=tuple(operations),
    )
    return _CHANGES[name](plain)


def whole_data(protocol: Protocol, epochs: int) -> Protocol:
    """The same for all real images: few epochs, and the drop of the learning rate at half of them.

    Mixing is for small sets and is left out.
    """
    return dataclasses.replace(
        protocol, epochs=epochs, schedule="drop", drop_epoch=(epochs + 1) // 2, cutmix=0.0
    )


def _paper(plain: Protocol) -> Protocol:
    """Sec. 5.1: augmentation; the drop from epoch 502 of 1000 on, as in the published code."""
    return plain


def _dc(plain: Protocol) -> Protocol:
    """That of the coreset and DC rows of Table 1: no augmentation; the drop from 152 of 300 on."""
    return dataclasses.replace(plain, operations=())


def _strong(plain: Protocol) -> Protocol:
    """What later work trains with: a cosine, and CutMix on every other batch."""
    return dataclasses.replace(plain, schedule="cosine", cutmix=0.5)


_CHANGES: Final[Mapping[str, Callable[[Protocol], Protocol]]] = {
    "paper": _paper,
    "dc": _dc,
    "strong": _strong,
    "quick": _paper,
}
assert _CHANGES.keys() == PROTOCOLS.keys()
