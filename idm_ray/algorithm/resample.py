"""Separable bilinear resampling as two matrix products.

Shifting, scaling and enlarging all read output pixel i at a source position and differ only in that
position. A matrix product has one order of summation, so unlike the backward passes of
`interpolate` and `grid_sample` it can give the same bits on every run on GPUs too. (Rotation is not
separable and still goes through `grid_sample`.)
"""

import torch
from torch import Tensor


def sampling_matrix(positions: Tensor, size: int) -> Tensor:
    """Weights of linear interpolation at given positions along one axis.

    Args:
        positions: (..., O) source coordinate of each output pixel, in pixels, 0 at the centre of
            the first source pixel. Outside [0, size - 1] the image fades to zero over one pixel.
        size: number of source pixels, S.

    Returns:
        (..., O, S) weights, of the dtype of `positions`.
    """
    source = torch.arange(size, dtype=positions.dtype, device=positions.device)
    return (1 - (positions.unsqueeze(-1) - source).abs()).clamp_min(0)


def resample(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply one sampling matrix along the height and one along the width.

    Args:
        images: (G, B, C, H, W).
        rows: (G, P, H) weights of each output row, one matrix per group.
        columns: (G, Q, W) weights of each output column.

    Returns:
        (G, B, C, P, Q). Gradients flow to `images`.
    """
    groups, batch, channels, height, width = images.shape
    out_rows, out_columns = rows.shape[1], columns.shape[1]
    wide = images.reshape(groups, batch * channels * height, width) @ columns.transpose(1, 2)
    tall = rows.unsqueeze(1) @ wide.reshape(groups, batch * channels, height, out_columns)
    return tall.reshape(groups, batch, channels, out_rows, out_columns)
