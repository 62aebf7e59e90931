"""Embedding networks: `features(x)` is what is matched, `head` makes logits of it."""

import math
import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

WIDTH = 128  # filters per block, Sec. 5.1


class ConvNet(nn.Module):
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
        super().__init__()
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
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(WIDTH * (height >> depth) * (width >> depth), num_classes)

    def each_block(self) -> Iterator[tuple[nn.Conv2d, nn.GroupNorm]]:
        """The layers with parameters of each block, first to last."""
        for i in range(0, len(self.blocks), 4):
            convolution, norm = self.blocks[i], self.blocks[i + 1]
            assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.GroupNorm)
            yield convolution, norm

    def features(self, images: Tensor) -> Tensor:
        """The flattened output of the last pooling, (N, F), for images (N, C, H, W)."""
        pooled: Tensor = self.blocks(images)
        return pooled.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def default_network(image_shape: Sequence[int]) -> str:
    """The ConvNet whose depth fits the image size: 3 blocks at 32 pixels, 6 at 224."""
    return f"convnet-{max(2, round(math.log2(min(image_shape[1:]) / 4)))}"


def build_network(name: str, image_shape: Sequence[int], num_classes: int) -> ConvNet:
    """A network of a given name, its parameters not yet allocated (device "meta").

    Args:
        name: convnet-DEPTH.
        image_shape: (C, H, W).
        num_classes: outputs of the head.

    Raises:
        ValueError: an unknown name, or a depth that the image size does not allow.
    """
    match = re.fullmatch(r"convnet-(\d+)", name)
    if match is None:
        raise ValueError(f"network must be convnet-DEPTH, such as convnet-3, got {name!r}")
    with torch.device("meta"):
        return ConvNet(image_shape, num_classes, depth=int(match[1]))


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
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.zero_()
