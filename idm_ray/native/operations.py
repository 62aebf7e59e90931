"""The C++ operations on tensors: checked, allocated, called; without gradients of their own.

Images are (N, C, H, W) on the CPU, dense in the channels-last layout, float32 or bfloat16; the
convolutions take bfloat16 alone. `threads` never changes a result.
"""

from ctypes import c_float, c_int, c_int64, c_void_p
from typing import Literal

import torch
from torch import Tensor

from idm_ray.native import library

OwnConvolutions = Literal["none", "first", "all"]
"""Which of a network's convolutions run here and not in torch: none; the first layer's; all."""

EPS = 1e-5
# The convolutions work on so many output channels at a time.
_PANEL = 64
_MAX_FIRST_CHANNELS = 3


def norm_relu_pool(
    images: Tensor, weight: Tensor, bias: Tensor, *, threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance norm, ReLU and 2x2 average pooling in one pass.

    Args:
        images: (N, C, H, W); an odd last row or column counts for the norm and is not pooled.
        weight: (C,) float32.
        bias: (C,) float32.
        threads: of this call.

    Returns:
        (N, C, H // 2, W // 2) of the images' type; means and 1 / standard deviations, (N, C).
    """
    n, c, h, w = _check(images)
    out = _empty(n, c, h // 2, w // 2, images.dtype)
    mean, rstd = torch.empty(n, c), torch.empty(n, c)
    _call(
        f"norm_relu_pool_{_name(images)}",
        (n, h, w, c),
        *(images, weight.contiguous(), bias.contiguous(), c_float(EPS), out, mean, rstd),
        threads=threads,
    )
    return out, mean, rstd


def norm_relu_pool_backward_(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *,
    threads: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `norm_relu_pool`; that for the images overwrites them.

    Args:
        gradient: (N, C, H // 2, W // 2), for the result.
        images: as they were given; afterwards their gradient, which saves the memory of another.
        weight: as given.
        bias: as given.
        mean: as returned.
        rstd: as returned.
        threads: of this call.

    Returns:
        `images`, and the gradients of weight and bias, (C,) float32.
    """
    n, c, h, w = _check(images)
    _check(gradient)
    d_weight, d_bias = torch.empty(n, c), torch.empty(n, c)
    _call(
        f"norm_relu_pool_backward_{_name(images)}",
        (n, h, w, c),
        *(gradient, images, weight.contiguous(), bias.contiguous(), mean, rstd),
        *(images, d_weight, d_bias),
        threads=threads,
    )
    return images, d_weight.sum(dim=0), d_bias.sum(dim=0)


def winograd_fits(weight: Tensor) -> bool:
    """Whether Winograd's convolution handles a kernel (out, in, 3, 3)."""
    return weight.shape[0] % _PANEL == 0 and weight.shape[1] % _PANEL == 0


def winograd_convolution(images: Tensor, weight: Tensor, bias: Tensor, *, threads: int) -> Tensor:
    """3x3 convolution with padding 1.

    Args:
        images: (N, in, H, W) bfloat16.
        weight: (out, in, 3, 3) float32; both channels as in `winograd_fits`.
        bias: (out,) float32.
        threads: of this call.

    Returns:
        (N, out, H, W) bfloat16.
    """
    n, c, h, w = _check(images)
    out = _empty(n, len(weight), h, w, images.dtype)
    _call(
        "winograd_convolution",
        (n, h, w, c, len(weight)),
        *(images, weight.contiguous(), bias.contiguous(), out),
        threads=threads,
    )
    return out


def winograd_input_gradient(gradient: Tensor, weight: Tensor, *, threads: int) -> Tensor:
    """Gradient for the images, (N, in, H, W) bfloat16, of one for the result (N, out, H, W)."""
    n, c, h, w = _check(gradient)
    out = _empty(n, weight.shape[1], h, w, gradient.dtype)
    _call(
        "winograd_input_gradient",
        (n, h, w, weight.shape[1], c),
        *(gradient, weight.contiguous(), out),
        threads=threads,
    )
    return out


def winograd_weight_gradient(images: Tensor, gradient: Tensor, *, threads: int) -> Tensor:
    """Gradient for the kernel, (out, in, 3, 3) float32."""
    n, c, h, w = _check(images)
    _check(gradient)
    out = torch.empty(gradient.shape[1], c, 3, 3)
    _call(
        "winograd_weight_gradient",
        (n, h, w, c, gradient.shape[1]),
        *(images, gradient, out),
        threads=threads,
    )
    return out


def first_fits(weight: Tensor) -> bool:
    """Whether `first_convolution` handles a kernel (out, in, 3, 3): few input channels."""
    return weight.shape[0] % _PANEL == 0 and weight.shape[1] <= _MAX_FIRST_CHANNELS


def first_convolution(
    images: Tensor, weight: Tensor, bias: Tensor, *, padding: int, threads: int
) -> Tensor:
    """3x3 convolution of images with few channels.

    Args:
        images: (N, in, H, W) float32 in the plain layout; rounded to bfloat16 on the way.
        weight: (out, in, 3, 3) float32, as in `first_fits`.
        bias: (out,) float32.
        padding: on all sides.
        threads: of this call.

    Returns:
        (N, out, H + 2 * padding - 2, W + 2 * padding - 2) bfloat16, channels last.
    """
    n, c, h, w = _check(images, torch.contiguous_format)
    grow = 2 * padding - 2
    out = _empty(n, len(weight), h + grow, w + grow, torch.bfloat16)
    _call(
        "first_convolution",
        (n, c, h, w, padding, len(weight)),
        *(images, weight.contiguous(), bias.contiguous(), out),
        threads=threads,
    )
    return out


def first_input_gradient(gradient: Tensor, weight: Tensor, *, padding: int, threads: int) -> Tensor:
    """Gradient for the images, (N, in, H, W) float32, of one for the result."""
    n, k, h, w = _check(gradient)
    grow = 2 * padding - 2
    out = torch.empty(n, weight.shape[1], h - grow, w - grow)
    _call(
        "first_input_gradient",
        (*out.shape, padding, k),
        *(gradient, weight.contiguous(), out),
        threads=threads,
    )
    return out


def first_weight_gradient(
    images: Tensor, gradient: Tensor, *, padding: int, threads: int
) -> Tensor:
    """Gradient for the kernel, (out, in, 3, 3) float32."""
    n, c, h, w = _check(images, torch.contiguous_format)
    _check(gradient)
    out = torch.empty(gradient.shape[1], c, 3, 3)
    _call(
        "first_weight_gradient",
        (n, c, h, w, padding, gradient.shape[1]),
        *(images, gradient, out),
        threads=threads,
    )
    return out


def _check(
    images: Tensor, layout: torch.memory_format = torch.channels_last
) -> tuple[int, int, int, int]:
    """The shape of images that C++ may read, which it cannot check itself."""
    if images.device.type != "cpu" or not images.is_contiguous(memory_format=layout):
        raise ValueError(f"expected images on the CPU, dense in {layout}; got others")
    n, c, h, w = images.shape
    return n, c, h, w


def _empty(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(n, c, h, w, dtype=dtype, memory_format=torch.channels_last)


def _name(images: Tensor) -> str:
    return str(images.dtype).removeprefix("torch.")


def _call(name: str, sizes: tuple[int, ...], *arguments: Tensor | c_float, threads: int) -> None:
    functions = library.load().functions
    assert functions is not None, "callers ask first whether there is a library"
    values = [c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    getattr(functions, name)(*map(c_int64, sizes), *values, c_int(threads))
