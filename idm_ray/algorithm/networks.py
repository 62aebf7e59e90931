"""Embedding networks: `features(x)` is what is matched, `head` makes logits of it."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

WIDTH = 128  # filters per block, Sec. 5.1


class Network(nn.Module):
    """Layers that embed images, and a linear head.

    Args:
        layers: (N, C, H, W) -> (N, ...), the embedding once it is flattened.
        image_shape: (C, H, W).
        num_classes: outputs of the head.

    Raises:
        ValueError: the layers cannot take images of this size, or a norm would make zeros of them.
    """

    def __init__(self, layers: nn.Module, image_shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.head = nn.Linear(_num_features(layers, image_shape), num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The flattened embedding, (N, F), of images (N, C, H, W)."""
        embedded: Tensor = self.layers(images)
        return embedded.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class ConvNet(Network):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling, and a linear head.

    The norm is affine, a group norm with as many groups as channels (eps 1e-5).

    Args:
        image_shape: (C, H, W).
        num_classes: outputs of the head.
        depth: number of blocks.

    Raises:
        ValueError: the last norm would see a 1x1 map, of which it makes zeros.

    Source: Sec. 5.1; 28x28 images of one channel are padded to 32x32 by the first convolution, as
    in the authors' published code.
    """

    def __init__(self, image_shape: Sequence[int], num_classes: int, depth: int) -> None:
        channels, height, width = image_shape
        first_padding = 3 if (channels, height, width) == (1, 28, 28) else 1
        height, width = height + 2 * (first_padding - 1), width + 2 * (first_padding - 1)
        if min(height, width) >> (depth - 1) < 2:
            raise ValueError(
                f"network convnet-{depth} would reduce {height}x{width} images to a 1x1 map before "
                f"its last norm; use convnet-{max(1, int(math.log2(min(height, width))))} at most"
            )
        blocks: list[nn.Module] = []
        for i in range(depth):
            padding = first_padding if i == 0 else 1
            blocks += [
                nn.Conv2d(channels if i == 0 else WIDTH, WIDTH, 3, padding=padding),
                nn.GroupNorm(WIDTH, WIDTH),
                nn.ReLU(),
                nn.AvgPool2d(2),
            ]
        super().__init__(nn.Sequential(*blocks), image_shape, num_classes)

    def each_block(self) -> Iterator[tuple[nn.Conv2d, nn.GroupNorm]]:
        """The layers with parameters of each block, first to last."""
        layers = list(self.layers.children())
        for convolution, norm in zip(layers[::4], layers[1::4], strict=True):
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.GroupNorm)
            yield convolution, norm


def default_network(image_shape: Sequence[int]) -> str:
    """The ConvNet whose depth fits the image size: 3 blocks at 32 pixels, 6 at 224."""
    return f"convnet-{max(2, round(math.log2(min(image_shape[1:]) / 4)))}"


@torch.no_grad()
def init_parameters(network: nn.Module, generator: torch.Generator) -> None:
    """PyTorch's default initialisation, drawn from a generator instead of global state.

    Convolutions and linear layers: weight and bias uniform within 1 / sqrt(fan in); norms: 1 and 0.

    Args:
        network: with allocated parameters; changed in place.
        generator: on the CPU, whatever the network's device, so that all devices agree.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in module.parameters(recurse=False):
                drawn = torch.rand(parameter.shape, generator=generator)
                parameter.copy_((2 * drawn - 1) * bound)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.zero_()


def _num_features(layers: nn.Module, image_shape: Sequence[int]) -> int:
    """Length of the flattened embedding, from a pass of nothing (device "meta")."""
    norms = [m for m in layers.modules() if isinstance(m, nn.GroupNorm | nn.BatchNorm2d)]
    seen = [norm.register_forward_hook(_refuse_1x1) for norm in norms]
    try:
        device = next(layers.parameters()).device
        embedded: Tensor = layers(torch.empty(2, *image_shape, device=device))
    except RuntimeError as error:  # a pooling or a convolution has nothing left
        raise _too_small(image_shape) from error
    finally:
        for hook in seen:
            hook.remove()
    return embedded.flatten(1).shape[1]


def _refuse_1x1(norm: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
    height, width = inputs[0].shape[2:]
    if isinstance(norm, nn.GroupNorm) and height * width == 1:
        raise RuntimeError("a norm over one pixel makes zeros")


def _too_small(image_shape: Sequence[int]) -> ValueError:
    channels, height, width = image_shape
    return ValueError(
        f"expected images large enough for this network, got {channels}x{height}x{width}: nothing "
        "would be left of them before its last layer; use another network, or --size"
    )
