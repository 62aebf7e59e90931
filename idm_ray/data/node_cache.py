"""Decoded images that fill up while a run goes on, shared by all processes of a node.

One file holds all pixels and is mapped into memory; a byte per image says whether it is there.
Writers need no order among them: whoever decodes an image writes the same bytes, and marks it only
when they are complete, so that a dead writer leaves nothing that anybody would read. Disk space is
reserved class by class, since a write into a map of a full disk would kill the process.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from idm_ray.data.arrays import Pixels
from idm_ray.data.images import Batch, Rows
from idm_ray.host import boot_id

_PIXELS, _PRESENT, _RESERVED = "pixels", "present", "reserved"
_COMPLETE, _IN_USE = "complete", "in use"
_FREE_SHARE = 0.1
"""Of the disk, which is left free unless a limit is given."""
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of errors."""


class NodeCache:
    """The images of some classes, each of which lies in one piece.

    Until it is complete, a cache belongs to one node and to one start of it: files that fill up
    cannot be shared over a network, and a power failure may take pixels but not their mark.

    Args:
        folder: of this data; created where missing. It holds one cache for each node and start
            that fills one, and those that are complete.
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
        self._limit_bytes = limit_bytes
        self._image_bytes = int(np.prod(image_shape))
        self._offsets = np.cumsum((0, *counts), dtype=np.int64)
        self._shape = (int(self._offsets[-1]), *image_shape)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "choosing"):  # nobody removes what another is about to use
            self.folder = folder = self._choose(folder)
        self._lock = FileLock(folder / "lock")
        with self._lock:
            if not self._fits(folder):
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
            for name in (_PIXELS, _PRESENT):
                _sync(self.folder / name)
            (self.folder / _COMPLETE).touch()
        return True

    def _choose(self, folder: Path) -> Path:
        """The cache to use: a complete one, or this node's own."""
        own = folder / (boot_id() or "unknown")
        others = sorted(other for other in folder.iterdir() if other.is_dir() and other != own)
        chosen = own
        for other in (own, *others):
            if (other / _COMPLETE).exists() and self._fits(other):
                chosen = other
                break
        else:
            for other in others:
                _remove_unused(other)
        chosen.mkdir(exist_ok=True)
        self._use = _hold(chosen)
        return chosen

    def _fits(self, folder: Path) -> bool:
        sizes = {
            _PIXELS: np.prod(self._shape),
            _PRESENT: self._shape[0],
            _RESERVED: len(self._offsets) - 1,
        }
        with contextlib.suppress(OSError):
            return all((folder / name).stat().st_size == size for name, size in sizes.items())
        return False

    def _create(self) -> None:
        for name in (_COMPLETE, _PIXELS, _PRESENT, _RESERVED):
            (self.folder / name).unlink(missing_ok=True)
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


def _hold(folder: Path) -> BinaryIO:
    """Mark a cache as in use for as long as this process lives."""
    file = (folder / _IN_USE).open("ab")
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def _remove_unused(folder: Path) -> None:
    """Remove what an earlier start of a node left, unless somebody uses it."""
    with contextlib.suppress(OSError), (folder / _IN_USE).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)


def _sync(path: Path) -> None:
    """Write a file's mapped pages to the disk; other threads go on meanwhile."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
