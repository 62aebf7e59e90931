"""CutMix: a box of each image is that of another one of the batch, and so is part of its label."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """How a batch is mixed.

    Attributes:
        partners: (B,) int64, whose box each image gets.
        rows: first row of the box and the row after its last.
        columns: the same across.
        share: of an image that stays its own, in [0, 1].
    """

    partners: Tensor
    rows: tuple[int, int]
    columns: tuple[int, int]
    share: float

    def apply(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> the same with the boxes of the partners."""
        mixed = images.clone()
        box = (..., slice(*self.rows), slice(*self.columns))
        mixed[box] = images[self.partners.to(images.device)][box]
        return mixed


def draw_mix(count: int, height: int, width: int, generator: torch.Generator) -> Mix:
    """Draw a box whose share of the image is uniform in [0, 1] before it is clipped.

    Args:
        count: images of the batch, B.
        height: of the images, in pixels.
        width: the same across.
        generator: drawn from 3 times, and for a permutation of the batch.

    Source: CutMix (ICCV 2019), with Beta(1, 1).
    """
    kept, y, x = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    side = math.sqrt(1 - kept)
    rows, columns = _side(height, side, y), _side(width, side, x)
    covered = (rows[1] - rows[0]) * (columns[1] - columns[0])
    return Mix(
        partners=torch.randperm(count, generator=generator),
        rows=rows,
        columns=columns,
        share=1 - covered / (height * width),
    )


def _side(size: int, side: float, centre: float) -> tuple[int, int]:
    """First pixel and the one after the last, of a side about a centre, clipped at the border."""
    length, middle = int(size * side), int(centre * size)
    return max(0, middle - length // 2), min(size, middle - length // 2 + length)
