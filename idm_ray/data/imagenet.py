"""ImageNet as it is distributed: tars, read by offset, never unpacked.

`ILSVRC2012_img_train.tar` holds a tar of each class, `ILSVRC2012_img_val.tar` the validation
images, whose classes are in the development kit.
"""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.imagenet_devkit import find_devkit, read_devkit
from idm_ray.data.listing import EncodedImage, Listing
from idm_ray.data.splits import hold_out
from idm_ray.data.tars import TarImages, images_within, join, members, plain_name
from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry

TRAIN_TAR = "ILSVRC2012_img_train.tar"
_VAL_TAR = "ILSVRC2012_img_val.tar"
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_VAL_IMAGE = re.compile(rb"ILSVRC2012_val_(\d{8})\.JPEG")
_log = logging.getLogger(__name__)


class ImageNetSource:
    """The training tar and what lies beside it.

    It indexes the tars when it is first listed or read. The index goes with a pickled source, so
    that processes which share its work index nothing again.
    """

    name = "imagenet"
    known_as = None
    is_random_access = True

    def __init__(self, root: Path, test_fraction: float) -> None:
        """Look at what there is.

        Args:
            root: The folder of the training tar.
            test_fraction: Share of each class to hold out if there is no validation tar.
        """
        self._root = root
        self._has_val = (root / _VAL_TAR).is_file()
        self._devkit = find_devkit(root) if self._has_val else ()
        self._test_fraction = test_fraction

    def identity(self) -> Iterator[str]:
        """Yield the folder and the size and time of each file."""
        yield f"imagenet {self._root.resolve()}"
        if not self._has_val:
            yield f"test_fraction {self._test_fraction!r}"
        tars = [self._root / TRAIN_TAR, *([self._root / _VAL_TAR] if self._has_val else [])]
        for path in (*tars, *self._devkit):
            status = path.stat()
            name = path.relative_to(self._root).as_posix()
            yield FileEntry(name, status.st_size, status.st_mtime_ns).identity()

    def listing(self) -> Listing:
        """List the training images as they lie in the tar, then the validation images.

        The sorted classes are 0, 1, 2, ...; validation images of classes that have no training
        images are left out.
        """
        return self._indexed[0]

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`."""
        _, train, val = self._indexed
        for row in map(int, rows):
            if row < len(train.names):
                yield train.image(self._root / TRAIN_TAR, row)
            else:
                yield val.image(self._root / _VAL_TAR, row - len(train.names))

    @property
    def num_ignored(self) -> int:
        """Members of the tars that are no images of ImageNet: links, devices, other files."""
        _, train, val = self._indexed
        return train.num_ignored + val.num_ignored

    @cached_property
    def _indexed(self) -> tuple[Listing, TarImages, TarImages]:
        """The listing, the training images and the validation images."""
        _log.info("indexing the tars of %s", self._root)
        class_names, labels, train = _index_train(self._root / TRAIN_TAR)
        if self._has_val:
            val_labels, val = self._index_val(class_names)
            is_test = np.arange(len(labels) + len(val_labels)) >= len(labels)
            labels = np.concatenate([labels, val_labels])
        else:
            val, is_test = join([]), hold_out(labels, self._test_fraction)
        for path, images in ((TRAIN_TAR, train), (_VAL_TAR, val)):
            if images.num_ignored:
                _log.warning("%s: ignored %d members", path, images.num_ignored)
        return Listing(class_names, labels, is_test), train, val

    def _index_val(self, class_names: tuple[str, ...]) -> tuple[NDArray[np.int64], TarImages]:
        """Return the labels (N,) and the images of the validation tar, those of known classes."""
        path = self._root / _VAL_TAR
        if not self._devkit:
            raise DataError(
                f"expected ILSVRC2012_devkit_t12.tar.gz beside {path}, which has no labels of its "
                "own, found none: put it there, or move the validation tar elsewhere to hold out "
                "some training images of each class"
            )
        truth = read_devkit(self._devkit)
        number = {name: label for label, name in enumerate(class_names)}
        label_of = np.array([number.get(name, -1) for name in truth], dtype=np.int64)
        with path.open("rb") as file:
            images = images_within(file, path, 0, path.stat().st_size)
        places = np.array([_val_number(name) for name in images.names], dtype=np.int64)
        if places.size and places.max() > len(truth):
            raise DataError(
                f"expected {len(truth)} images in {path} as the development kit has, found number "
                f"{places.max()}: take both from the same release"
            )
        is_known = (places > 0) & (label_of[places - 1] >= 0)
        return label_of[places[is_known] - 1], TarImages(
            images.names[is_known],
            images.offsets[is_known],
            images.sizes[is_known],
            images.num_ignored + int((places == 0).sum()),
        )


def _val_number(name: bytes) -> int:
    """The number 1, 2, ... in a validation image's name; 0 for other files."""
    found = _VAL_IMAGE.fullmatch(name)
    return int(found[1]) if found else 0


def _index_train(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64], TarImages]:
    """Return the sorted classes, the labels (N,) and the images of the training tar."""
    parts: dict[str, TarImages] = {}
    num_ignored = 0
    size = path.stat().st_size
    with path.open("rb") as file:
        for member in members(file, path, 0, size):
            found = _CLASS_TAR.fullmatch(plain_name(member) or "")
            if found is None:
                num_ignored += not member.isdir()
                continue
            if found[1] in parts:
                raise DataError(
                    f"expected one tar of each class in {path}, found two of {found[1]}: download "
                    "it again"
                )
            end = member.offset_data + member.size
            parts[found[1]] = images_within(
                file, path, member.offset_data, end, what=f"{found[1]}.tar"
            )
    if not parts:
        raise DataError(
            f"expected tars such as n01440764.tar in {path}, found none: give ImageNet's own "
            "training tar"
        )
    names = tuple(sorted(parts))
    labels = np.concatenate(
        [np.full(len(part.names), names.index(name)) for name, part in parts.items()]
    )
    images = join(list(parts.values()))
    return (
        names,
        labels.astype(np.int64),
        replace(images, num_ignored=images.num_ignored + num_ignored),
    )
