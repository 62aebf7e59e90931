"""Partitioning and expansion augmentation (Sec. 4.1)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from idm_ray.algorithm.resample import sampling_matrix


def tile_size(size: int, partition: int) -> int:
    """Pixels per side of a tile; rows and columns left over belong to no tile.

    Raises:
        ValueError: tiles would be smaller than 2 pixels.
    """
    tile = size // partition
    if tile < 2:
        raise ValueError(
            f"partition must leave tiles of at least 2 pixels, got {partition} for images of "
            f"{size} pixels; use partition <= {size // 2}"
        )
    return tile


def partition_images(images: Tensor, partition: int) -> Tensor:
    """Cut each image into partition x partition equal tiles.

    Args:
        images: (N, C, H, W).
        partition: tiles per side, l.

    Returns:
        (N, l*l, C, H // l, W // l), row by row. Gradients flow to `images`.

    Source: Partition in Eq. 3.
    """
    n, channels, height, width = images.shape
    th, tw = tile_size(height, partition), tile_size(width, partition)
    used = images[:, :, : th * partition, : tw * partition]
    tiles = used.reshape(n, channels, partition, th, partition, tw).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(n, partition * partition, channels, th, tw)


def enlarge(tiles: Tensor, height: int, width: int) -> Tensor:
    """Enlarge tiles by bilinear interpolation (corners not aligned, edges repeated).

    Args:
        tiles: (..., h, w).
        height: rows wanted.
        width: columns wanted.

    Returns:
        (..., height, width).

    Source: Expand in Eq. 3.
    """
    rows = _enlarging_matrix(tiles, tiles.shape[-2], height)
    columns = _enlarging_matrix(tiles, tiles.shape[-1], width)
    return rows @ (tiles @ columns.T)


def expand(images: Tensor, partition: int) -> Tensor:
    """Turn every image into its l*l tiles, each enlarged to the size of the image (Eq. 3).

    Args:
        images: (N, C, H, W) in normalised space.
        partition: tiles per side, l; 1 returns the images as they are.

    Returns:
        (N * l*l, C, H, W): the tiles of the first image, then of the second, ... Their labels are
        `labels.repeat_interleave(l * l)`. Gradients flow to `images`.

    Raises:
        ValueError: tiles would be smaller than 2 pixels.

    Source: Sec. 4.1, Eq. 3.
    """
    if partition == 1:
        return images
    height, width = images.shape[-2:]
    return enlarge(partition_images(images, partition).flatten(0, 1), height, width)


def shrink(images: Tensor, partition: int) -> Tensor:
    """Shrink images to the size of a tile by the mean over areas: the 2x2 mean at l = 2.

    Args:
        images: (N, C, H, W).
        partition: tiles per side, l.

    Returns:
        (N, C, H // l, W // l).

    Source: start from tiles of real images; the authors' published commands.
    """
    size = (tile_size(images.shape[-2], partition), tile_size(images.shape[-1], partition))
    return images if partition == 1 else F.interpolate(images, size=size, mode="area")


def _enlarging_matrix(like: Tensor, source: int, target: int) -> Tensor:
    out = torch.arange(target, dtype=like.dtype, device=like.device)
    positions = (out + 0.5) * source / target - 0.5
    return sampling_matrix(positions.clamp(0, source - 1), source)
