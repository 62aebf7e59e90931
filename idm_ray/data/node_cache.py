"""Decoded images that fill up while a run goes on, shared by all processes of a node.

One file holds all pixels and is mapped into memory; a byte per image says whether it is there.
Writers need no order among them: whoever decodes an image writes the same bytes, and marks it only
when they are complete, so that a dead writer leaves nothing that anybody would read. Disk space is
reserved class by class, since a write into a map of a full disk would kill the process.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from idm_ray.data.arrays import Pixels
from idm_ray.data.images import Batch, Rows
from idm_ray.host import boot_id

_PIXELS, _PRESENT, _RESERVED = "pixels", "present", "reserved"
_COMPLETE, _BOOT = "complete", "boot"
_FREE_SHARE = 0.1
"""Of the disk, which is left free unless a limit is given."""
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of errors."""


class NodeCache:
    """The images of some classes, each of which lies in one piece.

    Args:
        folder: of this cache alone; created where missing.
        counts: images of each class.
        image_shape: (C, H, W).
        limit_bytes: of pixels; None fills the disk up to nine tenths.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        counts: Sequence[int],
        image_shape: tuple[int, int, int],
        *,
        limit_bytes: int | None,
    ) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes
        self._image_bytes = int(np.prod(image_shape))
        self._offsets = np.cumsum((0, *counts), dtype=np.int64)
        self._shape = (int(self._offsets[-1]), *image_shape)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        with self._lock:
            if not self._is_usable():
                self._create()
        self._pixels: Pixels = np.memmap(folder / _PIXELS, np.uint8, "r+", shape=self._shape)
        self._present = np.memmap(folder / _PRESENT, np.uint8, "r+", shape=self._shape[:1])
        self._reserved = np.memmap(folder / _RESERVED, np.uint8, "r+", shape=(len(counts),))
        self.full = ""
        """Why it takes no more classes, if so."""

    def present(self, rows: Rows) -> NDArray[np.bool_]:
        """Tell which images are there."""
        return np.asarray(self._present[rows], dtype=np.bool_)

    def read(self, rows: Rows) -> Batch:
        """Copy images that are there."""
        return np.ascontiguousarray(self._pixels[rows])

    def store(self, row: int, pixels: NDArray[np.uint8]) -> None:
        """Keep an image, (C, H, W), if there is room for its class."""
        label = int(np.searchsorted(self._offsets, row, side="right")) - 1
        if self._reserved[label] or self._reserve(label):
            self._pixels[row] = pixels
            self._present[row] = 1

    def finish(self) -> bool:
        """Make the cache outlive the machine's next start, if all images are there."""
        if not self._present.all():
            return False
        if not (self.folder / _COMPLETE).exists():
            self._pixels.flush()
            self._present.flush()
            (self.folder / _COMPLETE).touch()
        return True

    def _is_usable(self) -> bool:
        """Whether the files fit, and no power failure can have taken pixels but not their mark."""
        sizes = {
            _PIXELS: np.prod(self._shape),
            _PRESENT: self._shape[0],
            _RESERVED: len(self._offsets) - 1,
        }
        with contextlib.suppress(OSError):
            fits = all((self.folder / name).stat().st_size == n for name, n in sizes.items())
            if (self.folder / _COMPLETE).exists():
                return fits
            return fits and (self.folder / _BOOT).read_text(encoding="utf-8") == boot_id()
        return False

    def _create(self) -> None:
        for name in (_COMPLETE, _PIXELS, _PRESENT, _RESERVED):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / _BOOT).write_text(boot_id(), encoding="utf-8")
        (self.folder / _PRESENT).write_bytes(bytes(self._shape[0]))
        (self.folder / _RESERVED).write_bytes(bytes(len(self._offsets) - 1))
        with (self.folder / _PIXELS).open("wb") as file:
            file.truncate(int(np.prod(self._shape)))  # takes no space before it is reserved

    def _reserve(self, label: int) -> bool:
        """Take the disk space of a class, unless that would go beyond the limit."""
        if self.full:
            return False
        size = int(self._offsets[label + 1] - self._offsets[label]) * self._image_bytes
        with self._lock:
            if not self._reserved[label]:
                self.full = self._refusal(size) or self._take_space(label, size)
            if not self.full:
                self._reserved[label] = 1
        return not self.full

    def _refusal(self, size: int) -> str:
        if self._limit_bytes is not None:
            kept = int((np.diff(self._offsets) * (self._reserved > 0)).sum()) * self._image_bytes
            is_reached = kept + size > self._limit_bytes
            return f"the limit of {self.folder} is reached" if is_reached else ""
        usage = shutil.disk_usage(self.folder)
        is_low = usage.free - size < _FREE_SHARE * usage.total
        return f"the disk of {self.folder} is nearly full" if is_low else ""

    def _take_space(self, label: int, size: int) -> str:
        if not hasattr(os, "posix_fallocate"):  # macOS
            return ""
        with (self.folder / _PIXELS).open("r+b") as file:
            try:
                begin = int(self._offsets[label]) * self._image_bytes
                os.posix_fallocate(file.fileno(), begin, size)
            except OSError as error:
                if error.errno in DISK_IS_FULL:
                    return f"the disk of {self.folder} is full"
                raise
        return ""
