"""Ways to compute a block's 3x3 convolution on a CPU, forward and backward apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idm_ray.native import operations as native
from idm_ray.native.operations import OwnConvolutions


class Convolution(Protocol):
    """A convolution's three products. Images are (N, C, H, W), dense and channels last.

    The first layer's images may have another layout and type; it says so.
    """

    def prepare(self, images: Tensor) -> Tensor:
        """Images (N, in, H, W) as the others want them."""

    def forward(self, images: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        """Maps (N, out, H', W') in the precision of the run; kernel and bias are float32."""

    def input_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        """Gradient for the images, (N, in, H, W)."""

    def weight_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        """Gradient for the kernel, (out, in, 3, 3) float32."""


def choose_convolution(
    layer: nn.Conv2d, *, dtype: torch.dtype, own: OwnConvolutions, threads: int
) -> Convolution:
    """The way for a layer.

    Args:
        layer: 3x3, stride 1.
        dtype: of the maps.
        own: what is faster on this kind of processor than torch; for bfloat16 alone.
        threads: of each product.
    """
    padding = (int(layer.padding[0]), int(layer.padding[1]))
    if dtype == torch.bfloat16 and own != "none" and native.first_fits(layer.weight):
        return _First(padding=padding[0], threads=threads)
    if dtype == torch.bfloat16 and own == "all" and native.winograd_fits(layer.weight):
        return _Winograd(threads=threads)
    return _Torch(dtype=dtype, padding=padding)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Torch:
    """PyTorch's; kernels are rounded to the precision of the maps."""

    dtype: torch.dtype
    padding: Sequence[int]

    def prepare(self, images: Tensor) -> Tensor:
        return images.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        maps = F.conv2d(images, kernel.to(images), bias.to(images), padding=tuple(self.padding))
        return maps.contiguous(memory_format=torch.channels_last)

    def input_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return self._backward(gradient, images, kernel, 0)

    def weight_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return self._backward(gradient, images, kernel, 1).float()

    def _backward(self, gradient: Tensor, images: Tensor, kernel: Tensor, wanted: int) -> Tensor:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            *(gradient, images, kernel.to(images), None, (1, 1), self.padding, (1, 1)),
            *(False, (0, 0), 1, [wanted == 0, wanted == 1, False]),
        )
        return found[wanted]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Winograd:
    """Winograd's, for many channels."""

    threads: int

    def prepare(self, images: Tensor) -> Tensor:
        return images.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        return native.winograd_convolution(images, kernel, bias, threads=self.threads)

    def input_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return native.winograd_input_gradient(gradient, kernel, threads=self.threads)

    def weight_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return native.winograd_weight_gradient(images, gradient, threads=self.threads)


@dataclass(frozen=True, kw_only=True, slots=True)
class _First:
    """For few channels; images are planes of float32 and rounded on the way."""

    padding: int
    threads: int

    def prepare(self, images: Tensor) -> Tensor:
        return images.float().contiguous()

    def forward(self, images: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        return native.first_convolution(
            images, kernel, bias, padding=self.padding, threads=self.threads
        )

    def input_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return native.first_input_gradient(
            gradient, kernel, padding=self.padding, threads=self.threads
        )

    def weight_gradient(self, gradient: Tensor, images: Tensor, kernel: Tensor) -> Tensor:
        return native.first_weight_gradient(
            images, gradient, padding=self.padding, threads=self.threads
        )
