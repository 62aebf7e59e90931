"""The embedded source: scikit-learn's handwritten digits, 8x8 grey, no download."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.listing import EncodedImage, Listing
from idm_ray.data.splits import hold_out

_TEST_FRACTION = 0.2
_BRIGHTEST = 16
"""The data's pixels are counts of ink, 0..16."""


class DigitsSource:
    """1797 handwritten digits with a fixed split, the same share of every class."""

    name = "digits"
    known_as = "digits"
    is_random_access = True

    def identity(self) -> Iterator[str]:
        """Yield a constant: these images never change."""
        yield "digits"

    def listing(self) -> Listing:
        """List the digits in scikit-learn's order."""
        _, labels = _load()
        names = tuple(str(digit) for digit in range(10))
        return Listing(names, labels, hold_out(labels, _TEST_FRACTION))

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the digits at `rows`, scaled to 0..255."""
        pixels, _ = _load()
        for row in rows:
            yield EncodedImage(f"digit {row}", partial(pixels.__getitem__, row))


def _load() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    # Two seconds, which other sources and a finished cache do not need.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    inked, labels = load_digits(return_X_y=True)
    pixels = np.round(inked.reshape(-1, 8, 8) * 255 / _BRIGHTEST).astype(np.uint8)
    return pixels, labels.astype(np.int64)
