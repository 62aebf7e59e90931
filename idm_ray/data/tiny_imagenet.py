"""TinyImageNet as it is distributed: class folders to train on, one annotated folder to test on.

`train/<wnid>/images/*.JPEG`, `val/images/*.JPEG` and `val/val_annotations.txt`. The images of
`test/` are those of a contest, without labels; they are left out.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.listing import IMAGE_SUFFIXES, EncodedImage, Listing, list_folders, some_names
from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry, read_listed

_NUM_CLASSES = 200
_TRAIN = "train/"
_VAL_IMAGES = "val/images/"
_ANNOTATIONS = "val/val_annotations.txt"


def is_tiny_imagenet(root: Path) -> bool:
    """Say whether a folder has this layout: `val/` has images in place of classes."""
    says_so = (root / _ANNOTATIONS).is_file() or (root / "wnids.txt").is_file()
    return says_so and bool(list_folders(root / _TRAIN)) and (root / _VAL_IMAGES).is_dir()


class TinyImageNetSource:
    """A folder of TinyImageNet, or of a part of it."""

    is_random_access = True

    def __init__(self, root: Path, files: Sequence[FileEntry]) -> None:
        """Label the files.

        Args:
            root: The folder.
            files: All files below it.

        Raises:
            DataError: The annotations do not fit the images or the classes.
        """
        self.name = root.name
        self._root = root
        self._class_names = list_folders(root / _TRAIN)
        self.known_as = "tinyimagenet" if len(self._class_names) == _NUM_CLASSES else None
        self._annotations = [entry for entry in files if entry.path == _ANNOTATIONS]
        self._files, self._labels = self._label(files)

    def identity(self) -> Iterator[str]:
        """Yield the folder, its classes and, per image, its name, size and time."""
        yield f"tiny imagenet {self._root.resolve()}"
        yield from self._class_names
        yield from (entry.identity() for entry in (*self._annotations, *self._files))

    def listing(self) -> Listing:
        """List the images by path; the sorted class folders are classes 0, 1, 2, ..."""
        is_test = [entry.path.startswith(_VAL_IMAGES) for entry in self._files]
        return Listing(self._class_names, self._labels, np.array(is_test, dtype=np.bool_))

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`."""
        for row in rows:
            entry = self._files[row]
            yield EncodedImage(entry.path, partial(read_listed, self._root, entry))

    def _label(self, files: Sequence[FileEntry]) -> tuple[list[FileEntry], NDArray[np.int64]]:
        """Return the images of both splits, and their labels (N,)."""
        class_of = _read_annotations(self._root / _ANNOTATIONS)
        number = {name: label for label, name in enumerate(self._class_names)}
        images = [entry for entry in files if entry.path.lower().endswith(IMAGE_SUFFIXES)]
        in_val = [entry for entry in images if entry.path.startswith(_VAL_IMAGES)]
        self._check(class_of, {entry.path.removeprefix(_VAL_IMAGES) for entry in in_val})
        labelled = [
            (entry, entry.path.removeprefix(_TRAIN).partition("/")[0])
            for entry in images
            if entry.path.startswith(_TRAIN)
        ] + [(entry, class_of[entry.path.removeprefix(_VAL_IMAGES)]) for entry in in_val]
        chosen = [(entry, number[name]) for entry, name in labelled if name in number]
        return (
            [entry for entry, _ in chosen],
            np.array([label for _, label in chosen], dtype=np.int64),
        )

    def _check(self, class_of: dict[str, str], images: set[str]) -> None:
        path = self._root / _ANNOTATIONS
        unknown = sorted(set(class_of.values()).difference(self._class_names))
        if unknown:
            raise DataError(
                f"expected in {path} only classes of {self._root / _TRAIN}, found "
                f"{some_names(unknown)}: add training images of them, or take the lines out"
            )
        for names, what in (
            (sorted(images.difference(class_of)), "a line for every image beside it, found none"),
            (
                sorted(set(class_of).difference(images)),
                "only lines of images there are, found ones",
            ),
        ):
            if names:
                raise DataError(
                    f"expected in {path} {what} for {some_names(names)}: unpack the archive again, "
                    "or make the two agree"
                )


def _read_annotations(path: Path) -> dict[str, str]:
    """Read the class of each validation image: lines of file, class and box between tabs."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise DataError(
            f"expected the classes of the validation images in {path}, found no such file: unpack "
            "the archive again"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected a text file, found other bytes in {path}: unpack the archive again"
        ) from error
    class_of: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *others = (field.strip() for field in line.split("\t"))
        if not name or not others or not others[0] or name in class_of:
            found = "a second line for the file in" if name in class_of else "no file and class in"
            raise DataError(
                f"expected one line of FILE, a tab and CLASS for each image in {path}, found "
                f"{found} {line[:60]!r} (line {number}): unpack the archive again"
            )
        class_of[name] = others[0]
    return class_of
