"""Decoded images by row number, wherever they are: what samplers and batches read from."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.arrays import Pixels

Rows = NDArray[np.int64]
Batch = NDArray[np.uint8]
"""(B, C, H, W)."""


class Images(Protocol):
    """The images of a split, sorted by class, as uint8."""

    def __len__(self) -> int:
        """The number of images, N."""

    def take(self, rows: Rows) -> Batch:
        """Give some images, in the order of `rows`.

        Args:
            rows: (B,) row numbers in 0..N-1; one may come more than once.

        Raises:
            DataError: The data changed or cannot be read any more.
        """

    def expect(self, rows: Rows) -> None:
        """Prepare for a `take` of the same rows, where that saves time; a hint."""


class MappedImages:
    """Images in a file that is mapped into memory.

    Args:
        pixels: (N, C, H, W) uint8.
    """

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def take(self, rows: Rows) -> Batch:
        """Copy some images."""
        return np.ascontiguousarray(self._pixels[rows])

    def expect(self, rows: Rows) -> None:
        """Do nothing: copying is as fast as it gets."""


class SomeImages:
    """Some of other images, under row numbers of their own.

    Args:
        images: the others.
        rows: (N,) of those that these are, in their order.
    """

    def __init__(self, images: Images, rows: Rows) -> None:
        self._images = images
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Rows) -> Batch:
        """Give some images."""
        return self._images.take(self._rows[rows])

    def expect(self, rows: Rows) -> None:
        """Let the others prepare for them."""
        self._images.expect(self._rows[rows])
