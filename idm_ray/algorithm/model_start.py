"""What a model of the queue starts from: decisions only, each a pure function of its key.

Whoever knows the configuration, the seed and a model's id can make them again, so that the process
that trains a model and the one that draws its batches need not tell each other.
"""

from dataclasses import dataclass

import torch

from idm_ray.algorithm.randomness import generator
from idm_ray.config import QueueConfig

LR_SPREAD = 0.1  # of the learning rate, to either side; Eq. 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelStart:
    """How a model of the queue begins, and what it is trained with.

    Attributes:
        member: number of the pretrained network that it is a copy of; None for a fresh random one.
        lr: learning rate of its optimiser.
        classes: labels of the real images that it is trained on in the queue, ascending.
    """

    member: int | None
    lr: float
    classes: tuple[int, ...]


def draw_start(config: QueueConfig, model: int, *, num_classes: int, seed: int) -> ModelStart:
    """Draw a model's pretrained network, learning rate and classes.

    Args:
        config: of the queue; without pretrained networks nothing is drawn.
        model: id of the model.
        num_classes: of the data.
        seed: of the run.

    Source: supplement 3, Eq. 6. Networks, learning rates and classes are uniform; the paper leaves
    open how many classes.
    """
    if not config.pretrained:
        return ModelStart(member=None, lr=config.lr_net, classes=tuple(range(num_classes)))
    draws = generator(seed, "model start", model)
    where, offset = torch.rand(2, generator=draws, dtype=torch.float64).tolist()
    order = torch.randperm(num_classes, generator=draws)
    return ModelStart(
        member=int(where * config.pretrained),
        lr=config.lr_net * (1 + LR_SPREAD * (2 * offset - 1)),
        classes=tuple(sorted(order[: _num_bound(config, num_classes)].tolist())),
    )


def _num_bound(config: QueueConfig, num_classes: int) -> int:
    """Classes that a model is bound to; at least two where there are two, or it learns nothing."""
    if config.pretrained_classes == "all":
        return num_classes
    if config.pretrained_classes == "half":
        return max(2, (num_classes + 1) // 2)
    return config.pretrained_classes


def pretraining_steps(config: QueueConfig, num_images: int) -> int:
    """SGD steps of each pretrained network; each epoch has its last batch filled up.

    Args:
        config: of the queue.
        num_images: training images of all classes.
    """
    return config.pretraining_steps(epoch_steps(config, num_images))


def epoch_steps(config: QueueConfig, num_images: int) -> int:
    """SGD steps of one pass over the images; its last batch is filled up."""
    return -(-num_images // config.batch_train)
