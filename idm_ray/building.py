"""From the name of a network to the network."""

from collections.abc import Sequence

import torch
from torch import nn

from idm_ray.algorithm.architectures import ARCHITECTURES, ConvNetVariant
from idm_ray.algorithm.networks import ConvNet, Network, init_parameters
from idm_ray.checks import refuse_unknown
from idm_ray.config import TORCHVISION
from idm_ray.network_names import parse_convnet
from idm_ray.torchvision_networks import build_torchvision, torchvision_names


def build_network(name: str, image_shape: Sequence[int], num_classes: int) -> Network:
    """A network of this project, its parameters not yet allocated (device "meta").

    Args:
        name: of a ConvNet (`network_names`), or one of `ARCHITECTURES`.
        image_shape: (C, H, W).
        num_classes: outputs of the head.

    Raises:
        UserError: an unknown name.
        ValueError: a network that the image size does not allow.
    """
    design = parse_convnet(name)
    if design is None:
        refuse_unknown([name], ["convnet-DEPTH", *ARCHITECTURES], what="network")
    with torch.device("meta"):
        if design is None:
            return ARCHITECTURES[name](image_shape, num_classes)
        if design.is_plain:
            return ConvNet(image_shape, num_classes, depth=design.depth)
        return ConvNetVariant(image_shape, num_classes, design)


def can_be_matched(name: str) -> bool:
    """Whether a network looks at each image by itself, so that its embeddings can be matched."""
    design = parse_convnet(name)
    if design is not None:
        return design.norm != "batch"
    return not (name.startswith(TORCHVISION) or name.endswith("-bn"))


def check_network(name: str, image_shape: Sequence[int], num_classes: int) -> None:
    """Refuse a network that is not known, or that cannot take images of this size.

    Raises:
        UserError, ValueError: as `build_network`.
    """
    if not name.startswith(TORCHVISION):
        build_network(name, image_shape, num_classes)
        return
    refuse_unknown([name], torchvision_names(), what="network")
    with torch.device("meta"):
        network = build_torchvision(name, num_classes, seed=0).eval()
        try:
            network(torch.empty(2, *image_shape))
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split()) or "it needs others"
            raise ValueError(
                f"network {name} cannot take images of {'x'.join(map(str, image_shape))} "
                f"({reason}): use another network"
            ) from error


def fresh_network(
    name: str, image_shape: Sequence[int], num_classes: int, generator: torch.Generator
) -> nn.Module:
    """A network to train, on the CPU, with weights drawn from a generator.

    Args:
        name: as for `build_network`, or torchvision/NAME.
        image_shape: (C, H, W).
        num_classes: outputs of the head.
        generator: on the CPU.

    Raises:
        UserError, ValueError: as `build_network`.
    """
    if name.startswith(TORCHVISION):
        refuse_unknown([name], torchvision_names(), what="network")
        seed = int(torch.randint(2**62, (), generator=generator))
        return build_torchvision(name, num_classes, seed)
    network = build_network(name, image_shape, num_classes).to_empty(device="cpu")
    init_parameters(network, generator)
    return network
