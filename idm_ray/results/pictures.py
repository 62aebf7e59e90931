"""From normalised pixels to what people look at: 8-bit images and PNG."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from idm_ray.errors import CondensedSetError


def to_uint8(
    images: npt.NDArray[np.float32], *, mean: Sequence[float], std: Sequence[float]
) -> npt.NDArray[np.uint8]:
    """Undoes the normalisation: x * std + mean, clipped to [0, 1], rounded to 0 ... 255.

    Args:
        images: (N, C, H, W), normalised.
        mean: Per channel.
        std: Per channel.

    Returns:
        (N, C, H, W).
    """
    # In float64, so that an 8-bit image which was normalised in float32 comes back unchanged.
    scale, shift = (np.asarray(values, np.float64).reshape(-1, 1, 1) for values in (std, mean))
    unit: npt.NDArray[np.float64] = (images * scale + shift).clip(0, 1)
    return np.rint(unit * 255).astype(np.uint8)


def from_uint8(
    pixels: npt.NDArray[np.uint8], *, mean: Sequence[float], std: Sequence[float]
) -> npt.NDArray[np.float32]:
    """Normalises 8-bit images: (x / 255 - mean) / std; `to_uint8` gives them back unchanged.

    Args:
        pixels: (N, C, H, W).
        mean: Per channel.
        std: Per channel.

    Returns:
        (N, C, H, W).
    """
    scale, shift = (np.asarray(values, np.float64).reshape(-1, 1, 1) for values in (std, mean))
    return ((pixels / 255 - shift) / scale).astype(np.float32)


def to_picture(image: npt.NDArray[np.uint8]) -> Image.Image:
    """Turns one (C, H, W) image into a picture: mode L for one channel, RGB for three.

    Raises:
        CondensedSetError: Neither one channel nor three.
    """
    if image.shape[0] not in (1, 3):
        raise CondensedSetError(
            f"expected images of 1 channel (grey) or 3 (RGB), found {image.shape[0]}; "
            "convert the data set to one of them first"
        )
    return Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0).copy())


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Returns one (C, H, W) image as PNG; C is 1 or 3."""
    file = io.BytesIO()
    to_picture(image).save(file, format="PNG")
    return file.getvalue()
