"""The synthetic images: where they start (Sec. 5.1 and the authors' published commands)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from idm_ray.algorithm.expansion import shrink, tile_size


def num_start_images(start: str, ipc: int, partition: int) -> int:
    """How many different real images of a class its start needs."""
    return {"tiles": ipc * partition**2, "whole": ipc, "noise": 0}[start]


def start_from_tiles(real_images: Tensor, partition: int) -> Tensor:
    """Put another real image, shrunk, in every tile.

    Args:
        real_images: (N * l*l, C, H, W) of one class, normalised.
        partition: tiles per side, l.

    Returns:
        (N, C, H, W): image n has real images n * l*l ... (n + 1) * l*l - 1 as its tiles, row by
        row; rows and columns that belong to no tile are 0, the mean colour.
    """
    _, channels, height, width = real_images.shape
    th, tw = tile_size(height, partition), tile_size(width, partition)
    tiles = shrink(real_images, partition)
    mosaic = tiles.reshape(-1, partition, partition, channels, th, tw).permute(0, 3, 1, 4, 2, 5)
    images = real_images.new_zeros(len(mosaic), channels, height, width)
    images[:, :, : th * partition, : tw * partition] = mosaic.reshape(
        -1, channels, th * partition, tw * partition
    )
    return images


def start_from_noise(ipc: int, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard normal pixels in normalised space, (ipc, C, H, W)."""
    return torch.randn(ipc, *image_shape, generator=generator)
