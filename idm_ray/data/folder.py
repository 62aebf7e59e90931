"""Images in class folders: root/train/<class>/ beside root/test/ or root/val/, or root/<class>/."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.listing import (
    IMAGE_SUFFIXES,
    EncodedImage,
    Listing,
    list_folders,
    some_names,
)
from idm_ray.data.splits import hold_out
from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry, read_listed

_TRAIN_FOLDER = "train"
_TEST_FOLDERS = ("test", "val", "validation")
"""The first that has class folders is the test split; the test images of a contest have none."""


class FolderSource:
    """A tree of class folders, with a split or without."""

    known_as = None
    is_random_access = True

    def __init__(self, root: Path, files: Sequence[FileEntry], test_fraction: float) -> None:
        self.name = root.name
        self._root = root
        train_classes = list_folders(root / _TRAIN_FOLDER)
        # A plain tree may have a class called "train": that one holds images, not folders.
        self._class_names = train_classes or list_folders(root)
        self._train_prefix = f"{_TRAIN_FOLDER}/" if train_classes else ""
        self._test_prefix = f"{_test_folder(root, train_classes)}/" if train_classes else None
        self._test_fraction = test_fraction
        self._files = [entry for entry in files if self._class_of(entry) is not None]
        if not self._files:
            raise DataError(
                f"expected images ({' '.join(IMAGE_SUFFIXES)}) in class folders or *.parquet "
                f"files in {root}, found none: give the folder that holds the class folders"
            )

    def identity(self) -> Iterator[str]:
        """Yield the folder, its classes and, per image, its name, size and time."""
        yield f"folder {self._root.resolve()} {self._train_prefix} {self._test_prefix}"
        if self._test_prefix is None:
            yield f"test_fraction {self._test_fraction!r}"
        yield from self._class_names
        yield from (entry.identity() for entry in self._files)

    def listing(self) -> Listing:
        """List the images by path; the sorted class folders are classes 0, 1, 2, ..."""
        number = {name: label for label, name in enumerate(self._class_names)}
        classes = [self._class_of(entry) for entry in self._files]
        labels = np.array([number[name] for name in classes if name is not None], dtype=np.int64)
        if self._test_prefix is None:
            return Listing(self._class_names, labels, hold_out(labels, self._test_fraction))
        is_test = [entry.path.startswith(self._test_prefix) for entry in self._files]
        return Listing(self._class_names, labels, np.array(is_test, dtype=np.bool_))

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`."""
        for row in rows:
            entry = self._files[row]
            yield EncodedImage(entry.path, partial(read_listed, self._root, entry))

    def _class_of(self, entry: FileEntry) -> str | None:
        """Return the class folder that an image is in, at any depth; None for other files."""
        for prefix in (self._train_prefix, self._test_prefix):
            if prefix is not None and entry.path.startswith(prefix):
                name, _, rest = entry.path.removeprefix(prefix).partition("/")
                return name if rest.lower().endswith(IMAGE_SUFFIXES) else None
        return None


def _test_folder(root: Path, train_classes: tuple[str, ...]) -> str:
    """Find the folder of the test split.

    Raises:
        DataError: There is none, or it has classes that the training split lacks.
    """
    found = {name: list_folders(root / name) for name in _TEST_FOLDERS}
    candidates = [name for name in _TEST_FOLDERS if found[name]]
    if not candidates:
        raise DataError(
            f"expected test images in {root / 'val'} or {root / 'test'}, found no class folders "
            f"there: add them, or give {root / _TRAIN_FOLDER} to hold out some of each class"
        )
    known = set(train_classes)
    labelled = [name for name in candidates if known.intersection(found[name])]
    chosen = (labelled or candidates)[0]
    unknown = [name for name in found[chosen] if name not in known]
    if unknown:
        raise DataError(
            f"expected in {root / chosen} only classes of {root / _TRAIN_FOLDER}, found "
            f"{some_names(unknown)}: add training images of them, or take them out"
        )
    return chosen
