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
        second_order: the same, and the gradient of those for the image.
    """

    forward: float
    match: float
    train: float
    second_order: float


def count_flops(network: Network, image_shape: tuple[int, int, int]) -> ImageFlops:
    """Count convolutions and matrix products, which are nearly all of the arithmetic.

    Args:
        network: unallocated (device "meta"), so that nothing is computed; it is left frozen.
        image_shape: (C, H, W).
    """
    image = torch.empty(1, *image_shape, device="meta")
    train = _forward_and_backward(network, image)
    second_order = _forward_and_twice_backward(network, image.clone().requires_grad_())
    network.requires_grad_(False)
    match = _forward_and_backward(network, image.requires_grad_())
    with FlopCounterMode(display=False) as counter:
        network(image.detach())
    return ImageFlops(
        forward=float(counter.get_total_flops()),
        match=match,
        train=train,
        second_order=second_order,
    )


def _forward_and_backward(network: Network, image: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    return float(counter.get_total_flops())


def _forward_and_twice_backward(network: Network, image: Tensor) -> float:
    weights = dict(network.named_parameters())
    # The counter wants no gradient for what is a leaf within the network.
    inner = {name: weight.clone() for name, weight in weights.items()}
    with FlopCounterMode(display=False) as counter:
        logits = torch.func.functional_call(network, inner, (image.clone(),))
        found = torch.autograd.grad(logits.sum(), list(weights.values()), create_graph=True)
        squares = [gradient.square().sum() for gradient in found if gradient.dim() > 1]
        torch.autograd.grad(torch.stack(squares).sum(), image)
    return float(counter.get_total_flops())
