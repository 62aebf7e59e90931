"""Networks beside the paper's ConvNet, which a condensed set should train as well (Tables 4 and 5).

AlexNet, VGG11 and ResNet18 are this field's small variants for 32 pixels, with instance norm unless
their name ends in "-bn". The paper does not say which norm its tables have.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from idm_ray.algorithm.networks import Network
from idm_ray.network_names import GROUPS, ConvNetDesign

Norm = Callable[[int], nn.Module]


def instance_norm(channels: int) -> nn.Module:
    """A group norm with a group for each channel, affine."""
    return nn.GroupNorm(channels, channels)


_NORMS: Final[Mapping[str, Norm]] = {
    "instance": instance_norm,
    "batch": nn.BatchNorm2d,
    "layer": partial(nn.GroupNorm, 1),
    "group": partial(nn.GroupNorm, GROUPS),
}
_POOLINGS: Final = {"avg": nn.AvgPool2d, "max": nn.MaxPool2d}
_ACTIVATIONS: Final = {"relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "sigmoid": nn.Sigmoid}


class ConvNetVariant(Network):
    """A ConvNet of other parts than the paper's; torch runs it, without fused blocks.

    All norms are affine by channel, a layer norm, too; a leaky ReLU has a slope of 0.01.

    Args:
        image_shape: (C, H, W); as `AlexNet` for 28.
        num_classes: outputs of the head.
        design: its parts.
    """

    def __init__(self, image_shape: Sequence[int], num_classes: int, design: ConvNetDesign) -> None:
        layers: list[nn.Module] = []
        channels, padding = image_shape[0], 1 + _more_padding(image_shape)
        for _ in range(design.depth):
            layers.append(nn.Conv2d(channels, design.width, 3, padding=padding))
            if design.norm in _NORMS:
                layers.append(_NORMS[design.norm](design.width))
            layers.append(_ACTIVATIONS[design.activation]())
            if design.pooling in _POOLINGS:
                layers.append(_POOLINGS[design.pooling](2))
            channels, padding = design.width, 1
        super().__init__(nn.Sequential(*layers), image_shape, num_classes)


class AlexNet(Network):
    """Five convolutions and three poolings; no norm, unless one is given.

    Args:
        image_shape: (C, H, W); 28x28 images of one channel are padded to 32x32.
        num_classes: outputs of the head.
        norm: after each convolution.
    """

    def __init__(self, image_shape: Sequence[int], num_classes: int, norm: Norm | None) -> None:
        def convolution(inputs: int, outputs: int, size: int, padding: int) -> list[nn.Module]:
            norms = [norm(outputs)] if norm is not None else []
            return [nn.Conv2d(inputs, outputs, size, padding=padding), *norms, nn.ReLU()]

        layers = [
            *convolution(image_shape[0], 128, 5, 2 + _more_padding(image_shape)),
            nn.MaxPool2d(2),
            *convolution(128, 192, 5, 2),
            nn.MaxPool2d(2),
            *convolution(192, 256, 3, 1),
            *convolution(256, 192, 3, 1),
            *convolution(192, 192, 3, 1),
            nn.MaxPool2d(2),
        ]
        super().__init__(nn.Sequential(*layers), image_shape, num_classes)


class VGG11(Network):
    """Eight convolutions, each with norm and ReLU, and five poolings.

    Args:
        image_shape: (C, H, W), of 32 pixels or more; as `AlexNet` for 28.
        num_classes: outputs of the head.
        norm: after each convolution.
    """

    def __init__(self, image_shape: Sequence[int], num_classes: int, norm: Norm) -> None:
        layers: list[nn.Module] = []
        channels, padding = image_shape[0], 1 + _more_padding(image_shape)
        for width in (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None):
            if width is None:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=padding), norm(width), nn.ReLU()]
            channels, padding = width, 1
        super().__init__(nn.Sequential(*layers), image_shape, num_classes)


class ResNet18(Network):
    """Eight basic blocks; the first convolution has stride 1 and no pooling after it.

    Args:
        image_shape: (C, H, W).
        num_classes: outputs of the head.
        norm: after each convolution.
        pools: whether 2x2 average pooling takes the place of strides, and of the last pooling.
    """

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, norm: Norm, *, pools: bool
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], 64, 3, padding=1, bias=False),
            norm(64),
            nn.ReLU(),
        ]
        channels = 64
        for width in (64, 128, 256, 512):
            layers.append(_BasicBlock(channels, width, norm, halves=width != 64, pools=pools))
            layers.append(_BasicBlock(width, width, norm, halves=False, pools=pools))
            channels = width
        if not pools:
            layers.append(nn.AdaptiveAvgPool2d(1))
        super().__init__(nn.Sequential(*layers), image_shape, num_classes)


class _BasicBlock(nn.Module):
    def __init__(self, channels: int, width: int, norm: Norm, *, halves: bool, pools: bool) -> None:
        super().__init__()
        stride = 2 if halves and not pools else 1
        pooling = [nn.AvgPool2d(2)] if halves and pools else []
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            *pooling,
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
        )
        self.shortcut = nn.Sequential()
        if halves or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), *pooling, norm(width)
            )

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.body(images) + self.shortcut(images))


ARCHITECTURES: Final[Mapping[str, Callable[[Sequence[int], int], Network]]] = {
    "alexnet": partial(AlexNet, norm=None),
    "alexnet-bn": partial(AlexNet, norm=nn.BatchNorm2d),
    "vgg11": partial(VGG11, norm=instance_norm),
    "vgg11-bn": partial(VGG11, norm=nn.BatchNorm2d),
    "resnet18": partial(ResNet18, norm=instance_norm, pools=False),
    "resnet18-bn": partial(ResNet18, norm=nn.BatchNorm2d, pools=False),
    "resnet18-ap": partial(ResNet18, norm=instance_norm, pools=True),
    "resnet18-ap-bn": partial(ResNet18, norm=nn.BatchNorm2d, pools=True),
}
"""Constructors by name, each of (image_shape, num_classes)."""


def _more_padding(image_shape: Sequence[int]) -> int:
    """What the first convolution pads beyond its own, so that 28x28 images become 32x32."""
    return 2 if tuple(image_shape) == (1, 28, 28) else 0
