"""The C++ operations on tensors: checked, allocated, called; without gradients of their own.

Images are (N, C, H, W) on the CPU, dense in the channels-last layout, float32 or bfloat16; the
convolutions take bfloat16 alone. `threads` never changes a result.
"""

import platform
from ctypes import c_float, c_int, c_int64, c_void_p
from typing import Literal

import torch
from torch import Tensor

from idm_ray.errors import ResourceError
from idm_ray.native import library

OwnConvolutions = Literal["none", "first", "all"]
"""Which of a network's convolutions run here and not in torch: none; the first layer's; all."""

EPS = 1e-5
# The convolutions work on so many output channels at a time.
_PANEL = 64
_MAX_FIRST_CHANNELS = 3
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


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
    n, c, h, w = _check(images, images.dtype)
    out = _empty(n, c, h // 2, w // 2, images.dtype)
    mean, rstd = torch.empty(n, c), torch.empty(n, c)
    _call(
        f"norm_relu_pool_{_DTYPES[images.dtype]}",
        (n, h, w, c),
        *(images, _floats(weight, c), _floats(bias, c), c_float(EPS), out, mean, rstd),
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
    n, c, h, w = _check(images, images.dtype)
    _check(gradient, images.dtype, n, c, h // 2, w // 2)
    d_weight, d_bias = torch.empty(n, c), torch.empty(n, c)
    _call(
        f"norm_relu_pool_backward_{_DTYPES[images.dtype]}",
        (n, h, w, c),
        *(gradient, images, _floats(weight, c), _floats(bias, c)),
        *(_floats(mean, n, c), _floats(rstd, n, c), images, d_weight, d_bias),
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
    n, c, h, w = _check(images, torch.bfloat16)
    out = _empty(n, len(weight), h, w, images.dtype)
    _call(
        "winograd_convolution",
        (n, h, w, c, len(weight)),
        *(images, _kernel(weight, len(weight), c), _floats(bias, len(weight)), out),
        threads=threads,
    )
    return out


def winograd_input_gradient(gradient: Tensor, weight: Tensor, *, threads: int) -> Tensor:
    """Gradient for the images, (N, in, H, W) bfloat16, of one for the result (N, out, H, W)."""
    n, c, h, w = _check(gradient, torch.bfloat16)
    out = _empty(n, weight.shape[1], h, w, gradient.dtype)
    _call(
        "winograd_input_gradient",
        (n, h, w, weight.shape[1], c),
        *(gradient, _kernel(weight, c, weight.shape[1]), out),
        threads=threads,
    )
    return out


def winograd_weight_gradient(images: Tensor, gradient: Tensor, *, threads: int) -> Tensor:
    """Gradient for the kernel, (out, in, 3, 3) float32."""
    n, c, h, w = _check(images, torch.bfloat16)
    out = torch.empty(gradient.shape[1], c, 3, 3)
    _check(gradient, torch.bfloat16, n, len(out), h, w)
    _call(
        "winograd_weight_gradient",
        (n, h, w, c, len(out)),
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
    n, c, h, w = _check(images, torch.float32, layout=torch.contiguous_format)
    grow = 2 * padding - 2
    out = _empty(n, len(weight), h + grow, w + grow, torch.bfloat16)
    _call(
        "first_convolution",
        (n, c, h, w, padding, len(weight)),
        *(images, _kernel(weight, len(weight), c), _floats(bias, len(weight)), out),
        threads=threads,
    )
    return out


def first_input_gradient(gradient: Tensor, weight: Tensor, *, padding: int, threads: int) -> Tensor:
    """Gradient for the images, (N, in, H, W) float32, of one for the result."""
    n, k, h, w = _check(gradient, torch.bfloat16)
    grow = 2 * padding - 2
    out = torch.empty(n, weight.shape[1], h - grow, w - grow)
    _call(
        "first_input_gradient",
        (*out.shape, padding, k),
        *(gradient, _kernel(weight, k, weight.shape[1]), out),
        threads=threads,
    )
    return out


def first_weight_gradient(
    images: Tensor, gradient: Tensor, *, padding: int, threads: int
) -> Tensor:
    """Gradient for the kernel, (out, in, 3, 3) float32."""
    n, c, h, w = _check(images, torch.float32, layout=torch.contiguous_format)
    grow = 2 * padding - 2
    out = torch.empty(gradient.shape[1], c, 3, 3)
    _check(gradient, torch.bfloat16, n, len(out), h + grow, w + grow)
    _call(
        "first_weight_gradient",
        (n, c, h, w, padding, len(out)),
        *(images, gradient, out),
        threads=threads,
    )
    return out


def _kernel(weight: Tensor, out: int, channels: int) -> Tensor:
    return _floats(weight, out, channels, 3, 3)


def _check(
    images: Tensor,
    dtype: torch.dtype,
    *shape: int,
    layout: torch.memory_format = torch.channels_last,
) -> tuple[int, int, int, int]:
    """The shape (N, C, H, W) of images that C++ may read, which it cannot check itself."""
    fits = images.dtype == dtype and (not shape or images.shape == shape)
    if not fits or images.device.type != "cpu" or not images.is_contiguous(memory_format=layout):
        raise ValueError(
            f"expected {dtype} images on the CPU, dense in {layout}, of shape "
            f"{shape or '(N, C, H, W)'}; got {images.dtype} of shape {tuple(images.shape)}"
        )
    n, c, h, w = images.shape
    return n, c, h, w


def _floats(numbers: Tensor, *shape: int) -> Tensor:
    """Dense float32 numbers of a shape."""
    if numbers.dtype != torch.float32 or numbers.shape != shape:
        raise ValueError(
            f"expected float32 of shape {shape}, got {numbers.dtype} of {tuple(numbers.shape)}"
        )
    return numbers.contiguous()


def _empty(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Tensor:
    return torch.empty(n, c, h, w, dtype=dtype, memory_format=torch.channels_last)


def _call(name: str, sizes: tuple[int, ...], *arguments: Tensor | c_float, threads: int) -> None:
    found = library.load()
    if not hasattr(found.functions, name):
        # The run was laid out for nodes that can; a task may have come to another.
        why = found.obstacle or "its processor lacks the instructions"
        raise ResourceError(
            f"node {platform.node()} cannot run the compiled networks of this run: {why}; use "
            "--compile off, or keep such nodes out"
        )
    values = [c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    getattr(found.functions, name)(*map(c_int64, sizes), *values, c_int(threads))
