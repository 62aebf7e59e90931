"""Stochastic gradient descent on flat vectors and on synthetic images, as PyTorch's SGD does it."""

import torch
from torch import Tensor


@torch.no_grad()
def sgd_step_(
    values: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    *,
    lr: float,
    momentum: float,
    weight_decay: float = 0.0,
) -> None:
    """One step, in place: v <- momentum v + g + decay x; x <- x - lr v.

    Args:
        values: what is optimised; changed in place.
        gradient: of the same shape.
        velocity: zeros at the start; changed in place.
        lr: learning rate.
        momentum: in [0, 1).
        weight_decay: L2 penalty.
    """
    velocity.mul_(momentum).add_(gradient)
    if weight_decay:
        velocity.add_(values, alpha=weight_decay)
    values.sub_(velocity, alpha=lr)


@torch.no_grad()
def per_class_step_(
    images: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    *,
    lr: float,
    momentum: float,
    num_classes: int,
) -> None:
    """The published step of the images: one momentum step over all images for each class in turn.

    A class has a gradient in one of the C steps of an iteration and coasts through the C - 1 that
    belong to the others. The coasting is a geometric series, so the C steps are taken at once; the
    result is that of plain SGD with lr / (1 - momentum), to a factor 1 - momentum^C.

    Args:
        images: changed in place.
        gradient: of the same shape, of each class's own loss.
        velocity: zeros at the start; changed in place.
        lr: learning rate of the single step.
        momentum: in [0, 1).
        num_classes: C, all classes of the data set, not only those of `images`.

    Source: the authors' published commands; the step in Alg. 1, line 6.
    """
    velocity.mul_(momentum).add_(gradient)
    distance = (1 - momentum**num_classes) / (1 - momentum)
    images.sub_(velocity, alpha=lr * distance)
    velocity.mul_(momentum ** (num_classes - 1))
