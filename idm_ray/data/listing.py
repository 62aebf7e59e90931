"""What a source of images is: labelled images numbered 0, 1, 2, ..., readable in that order."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
PROBLEMS_KEPT = 5
"""Of images that cannot be used: the first few are told with their reasons, all are counted."""
"""Lowercase endings of image files; case does not matter."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One image that is not decoded yet."""

    name: str
    """Where it lies, for messages."""
    content: Callable[[], bytes | NDArray[np.uint8]]
    """Reads its encoded bytes; where a source keeps bare pixels, those: (H, W) or (H, W, 3)."""

    def open(self) -> Image.Image:
        """Open it; Pillow decodes lazily."""
        content = self.content()
        if isinstance(content, bytes):
            return Image.open(io.BytesIO(content))
        return Image.fromarray(content)

    def encoded(self) -> bytes:
        """Return its encoded bytes as they are; bare pixels become a PNG."""
        content = self.content()
        if isinstance(content, bytes):
            return content
        file = io.BytesIO()
        Image.fromarray(content).save(file, "PNG")
        return file.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The labels of all images of a source, in the order in which they lie in it."""

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """(N,), each in 0..len(class_names)-1."""
    is_test: NDArray[np.bool_]
    """(N,)."""
    skipped: int = 0
    """Images that are not listed because whoever made the source could not use them."""
    problems: tuple[str, ...] = ()
    """The first few of them, each with its reason."""


class Source(Protocol):
    """Labelled images somewhere: embedded, in parquet files or in class folders."""

    @property
    def name(self) -> str:
        """A short name: the folder's, or the file's without its ending."""

    @property
    def known_as(self) -> str | None:
        """The known data set that this source is by construction, else None."""

    @property
    def is_random_access(self) -> bool:
        """Whether reading some rows costs as much as these rows, wherever they lie.

        If not, reading one class takes about as long as reading all: whoever shares out the work
        of reading then cuts it by ranges of rows, not by classes.
        """

    def identity(self) -> Iterator[str]:
        """Yield all that tells these images from others without reading them."""

    def listing(self) -> Listing:
        """List all images.

        Raises:
            DataError: Files or labels are not as they should be.
        """

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield some images of the listing, a bounded number of them in memory at a time.

        Args:
            rows: Ascending positions in the listing.
        """


def list_folders(folder: Path) -> tuple[str, ...]:
    """Return the sorted names of the folders in a folder, without hidden ones; () if there is none.

    Sorted by code points, so that labels do not depend on the machine's language.
    """
    if not folder.is_dir():
        return ()
    return tuple(
        sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    )


def some_names(names: Sequence[str]) -> str:
    """Write the first few of some names, for messages."""
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
