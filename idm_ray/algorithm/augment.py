"""Differentiable Siamese augmentation: parameters are drawn apart from their application.

Images come as (G, B, C, H, W): G groups that share their parameters. In matching a group is a class
(one draw for all its images, the same for real and synthetic ones); in evaluation a group is one
image. Formulas: method of DSA (ICML 2021) as the paper's authors run it; x is in normalised space.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from idm_ray.algorithm.resample import resample, sampling_matrix

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")

_NUM_UNIFORMS = 3  # the most that one operation needs (color: brightness, saturation, contrast)


def allowed_operations(flips: bool) -> tuple[str, ...]:
    """The operations for a data set; where mirror images are other classes, flips are left out."""
    return tuple(name for name in OPERATIONS if flips or name != "flip")


@dataclass(frozen=True, slots=True)
class AugmentParams:
    """What to do with each of G groups.

    Attributes:
        operations: name of the operation of each group.
        uniforms: (G, 3) float64 numbers in [0, 1), from which the operation's parameters follow.
    """

    operations: tuple[str, ...]
    uniforms: Tensor

    def of_group(self, number: int) -> "AugmentParams":
        """What to do with one of the groups."""
        return AugmentParams(
            self.operations[number : number + 1], self.uniforms[number : number + 1]
        )


def draw_siamese(allowed: Sequence[str], generators: Sequence[torch.Generator]) -> AugmentParams:
    """One operation and one set of parameters per class, for the whole batch of that class.

    Args:
        allowed: operations to choose from, uniformly.
        generators: one per class.
    """
    draws = torch.stack([_uniforms(1 + _NUM_UNIFORMS, g) for g in generators])
    chosen = (draws[:, 0] * len(allowed)).long().tolist()
    return AugmentParams(tuple(allowed[i] for i in chosen), draws[:, 1:])


def draw_per_image(
    allowed: Sequence[str], num_images: int, generator: torch.Generator
) -> AugmentParams:
    """The rule of evaluation: one operation per batch, parameters per image.

    Args:
        allowed: operations to choose from, uniformly.
        num_images: images in the batch, N.
        generator: drawn from N * 3 + 1 times.
    """
    operation = allowed[int(_uniforms(1, generator) * len(allowed))]
    uniforms = _uniforms(num_images * _NUM_UNIFORMS, generator).reshape(num_images, -1)
    return AugmentParams((operation,) * num_images, uniforms)


def augment(images: Tensor, params: AugmentParams) -> Tensor:
    """Apply each group's operation to all its images.

    Args:
        images: (G, B, C, H, W) in normalised space.
        params: for G groups.

    Returns:
        (G, B, C, H, W). Gradients flow to `images`.

    Source: Sec. 4.1 (differentiable augmentation) and DSA.
    """
    uniforms = params.uniforms.to(images)
    present = sorted(set(params.operations), key=OPERATIONS.index)
    if len(present) == 1:
        return _APPLY[present[0]](images, uniforms)
    out: list[Tensor] = []
    order: list[int] = []
    for name in present:
        members = [i for i, op in enumerate(params.operations) if op == name]
        out.append(_APPLY[name](images[members], uniforms[members]))
        order.extend(members)
    back = torch.tensor(order, device=images.device).argsort()
    return torch.cat(out)[back]


def _uniforms(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def _per_group(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1, 1)


def _color(images: Tensor, u: Tensor) -> Tensor:
    """Brightness, saturation, contrast, in this order."""
    bright = images + _per_group(u[:, 0] - 0.5)
    grey = bright.mean(dim=2, keepdim=True)
    saturated = grey + (bright - grey) * _per_group(2 * u[:, 1])
    mean = saturated.mean(dim=(2, 3, 4), keepdim=True)
    return mean + (saturated - mean) * _per_group(0.5 + u[:, 2])


def _crop(images: Tensor, u: Tensor) -> Tensor:
    """Whole-pixel shifts of up to an eighth of the size; zeros enter."""
    rows, columns = (
        _pixels(size, u) + _whole(u[:, axis], 2 * _round(size / 8) + 1) - _round(size / 8)
        for axis, size in enumerate(images.shape[-2:])
    )
    return _resample_at(images, rows, columns)


def _cutout(images: Tensor, u: Tensor) -> Tensor:
    """Zero a square of half the size, clipped at the border."""
    rows, columns = (_inside_cut(size, u[:, axis]) for axis, size in enumerate(images.shape[-2:]))
    cut = (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1).unsqueeze(1)
    return images.masked_fill(cut, 0)


def _flip(images: Tensor, u: Tensor) -> Tensor:
    """Mirror left and right with probability one half."""
    return torch.where(_per_group(u[:, 0]) < 0.5, images.flip(-1), images)


def _scale(images: Tensor, u: Tensor) -> Tensor:
    """Zoom about the centre by independent factors per axis, 1/1.2 to 1.2; zeros outside."""
    ratio = 1.2
    factors = 1 / ratio + u * (ratio - 1 / ratio)
    rows, columns = (
        _zoomed(size, factors[:, axis : axis + 1]) for axis, size in enumerate(images.shape[-2:])
    )
    return _resample_at(images, rows, columns)


def _rotate(images: Tensor, u: Tensor) -> Tensor:
    """Turn about the centre by up to 15 degrees either way; zeros outside."""
    groups, batch, channels, height, width = images.shape
    angle = (u[:, 0] - 0.5) * 2 * 15 * math.pi / 180
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], dim=1).reshape(groups, 2, 3)
    # A group turns by one angle, so its images are channels of one picture: one grid per group.
    stacked = images.reshape(groups, batch * channels, height, width)
    grid = F.affine_grid(theta, list(stacked.shape), align_corners=False)
    turned = F.grid_sample(stacked, grid, padding_mode="zeros", align_corners=False)
    return turned.reshape(images.shape)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _whole(u: Tensor, count: int) -> Tensor:
    """(G, 1) whole numbers 0 ... count - 1 from uniforms of shape (G,)."""
    # In float32 the product of the largest uniform may round up to `count`.
    return (u * count).floor().clamp_max(count - 1).unsqueeze(1)


def _pixels(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device)


def _inside_cut(size: int, u: Tensor) -> Tensor:
    """(G, size) whether each row or column lies in the cut, from uniforms of shape (G,)."""
    length = _round(size / 2)
    centre = _whole(u, size + 1 - length % 2)
    first = centre - length // 2
    pixels = _pixels(size, u)
    return (pixels >= first) & (pixels < first + length)


def _zoomed(size: int, factor: Tensor) -> Tensor:
    middle = (size - 1) / 2
    return (_pixels(size, factor) - middle) * factor + middle


def _resample_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return resample(images, sampling_matrix(rows, height), sampling_matrix(columns, width))


_APPLY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
