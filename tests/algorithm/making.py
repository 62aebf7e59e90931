"""Small tensors and networks for the tests of this folder."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from idm_ray.algorithm.class_group import ClassGroup
from idm_ray.algorithm.distribution_matching import DistributionMatching
from idm_ray.algorithm.matcher import Classes, MakeMatcher, RealBatches
from idm_ray.algorithm.networks import ConvNet, init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.building import build_network
from idm_ray.config import CondenseConfig


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, drawn without touching global state."""
    return torch.randn(*shape, generator=generator(seed, "test"), dtype=torch.float64).to(dtype)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(*shape, generator=generator(seed, "test"), dtype=torch.float64)


def convnet(
    image_shape: tuple[int, int, int] = (3, 8, 8),
    num_classes: int = 4,
    depth: int = 2,
    seed: int = 0,
) -> ConvNet:
    """A ConvNet with weights; its norms are not the identity, so that they count."""
    network = build_network(f"convnet-{depth}", image_shape, num_classes).to_empty(device="cpu")
    init_parameters(network, generator(seed, "test network"))
    with torch.no_grad():
        for block in range(depth):
            norm = network.layers[4 * block + 1]
            norm.weight.add_(0.3 * normal(len(norm.weight), seed=seed + block).float())
            norm.bias.add_(0.3 * normal(len(norm.bias), seed=seed + block + 100).float())
    return network


def flat_weights(network: torch.nn.Module) -> Tensor:
    """All parameters one after another, in the order of the layers."""
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach()


def flat_network(network: ConvNet, numerics: Numerics | None = None) -> FlatNetwork:
    """The network as the implementation runs it, with the same weights."""
    weights = flat_weights(network)
    flat = FlatNetwork(network, numerics or Numerics())
    flat.load(weights)
    return flat


def class_group(
    config: CondenseConfig,
    classes: Sequence[int],
    *,
    operations: Sequence[str],
    network: Any,
    real_batches: RealBatches,
    matcher: MakeMatcher = DistributionMatching,
    **more: Any,
) -> ClassGroup:
    """A group with a matcher of its own classes."""
    matched = Classes(
        labels=tuple(classes),
        config=config,
        operations=tuple(operations),
        network=network,
        real_batches=real_batches,
    )
    return ClassGroup(config, classes, matcher=matcher(matched), **more)
