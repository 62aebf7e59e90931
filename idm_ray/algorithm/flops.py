"""How much arithmetic an image costs in a network; counted, not run."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from idm_ray.algorithm.networks import Network


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFlops:
    """Floating-point operations per image; a multiplication and an addition are two.

    Attributes:
        forward: one pass without gradients.
        match: forward, and the gradient for the image alone (frozen weights).
        train: forward, and the gradients of all weights.
    """

    forward: float
    match: float
    train: float


def count_flops(network: Network, image_shape: tuple[int, int, int]) -> ImageFlops:
    """Count convolutions and matrix products, which are nearly all of the arithmetic.

    Args:
        network: unallocated (device "meta"), so that nothing is computed; it is left frozen.
        image_shape: (C, H, W).
    """
    image = torch.empty(1, *image_shape, device="meta")
    train = _forward_and_backward(network, image)
    network.requires_grad_(False)
    match = _forward_and_backward(network, image.requires_grad_())
    with FlopCounterMode(display=False) as counter:
        network(image.detach())
    return ImageFlops(forward=float(counter.get_total_flops()), match=match, train=train)


def _forward_and_backward(network: Network, image: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    return float(counter.get_total_flops())
