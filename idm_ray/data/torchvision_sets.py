"""The data sets that torchvision downloads: CIFAR-10, CIFAR-100, MNIST, FashionMNIST and SVHN."""

import importlib
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from idm_ray.data.known import KNOWN
from idm_ray.data.listing import EncodedImage, Listing
from idm_ray.errors import DataError
from idm_ray.host import user_cache
from idm_ray.local_disk import FileEntry

_STALLED_S = 60.0
"""A download that brings nothing for so long has failed."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Published:
    """How torchvision keeps a data set."""

    kind: str
    """The name of torchvision's class."""
    files: tuple[str, ...]
    """What is left to read, relative to the root; known here so that finding decoded images does
    not import torchvision."""


def _idx_files(kind: str) -> tuple[str, ...]:
    parts = ("images-idx3", "labels-idx1")
    return tuple(
        f"{kind}/raw/{split}-{part}-ubyte" for split in ("train", "t10k") for part in parts
    )


_PUBLISHED: Mapping[str, _Published] = MappingProxyType(
    {
        "cifar10": _Published(
            "CIFAR10",
            tuple(
                f"cifar-10-batches-py/{name}"
                for name in (
                    *(f"data_batch_{n}" for n in range(1, 6)),
                    "test_batch",
                    "batches.meta",
                )
            ),
        ),
        "cifar100": _Published(
            "CIFAR100", tuple(f"cifar-100-python/{name}" for name in ("train", "test", "meta"))
        ),
        "mnist": _Published("MNIST", _idx_files("MNIST")),
        "fashionmnist": _Published("FashionMNIST", _idx_files("FashionMNIST")),
        "svhn": _Published("SVHN", ("train_32x32.mat", "test_32x32.mat")),
    }
)
TORCHVISION_SETS = tuple(_PUBLISHED)
"""The words that name them."""


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """All images of a data set, the training images first."""

    pixels: NDArray[np.uint8]
    """(N, H, W) or (N, H, W, 3)."""
    labels: NDArray[np.int64]
    """(N,)."""
    num_train: int


class TorchvisionSource:
    """A data set with its published split, downloaded when it is not there yet."""

    is_random_access = True

    def __init__(self, word: str, data_root: str | None) -> None:
        """Name the data set; nothing is read or downloaded yet.

        Args:
            word: One of `TORCHVISION_SETS`.
            data_root: Folder that has torchvision's files, or gets them; None: the user's cache.
        """
        self.name = self.known_as = word
        self._published = _PUBLISHED[word]
        root = Path(data_root).expanduser() if data_root else user_cache() / "torchvision"
        self._root = root.resolve()

    @property
    def num_bytes(self) -> int:
        """Size of the files that are there."""
        return sum(path.stat().st_size for path in self._paths() if path.is_file())

    @property
    def is_there(self) -> bool:
        """Whether nothing has to be downloaded."""
        return all(path.is_file() for path in self._paths())

    def identity(self) -> Iterator[str]:
        """Yield the folder and, per file, its name, size and time; downloads what is missing.

        Raises:
            DataError: Files are missing and cannot be downloaded.
        """
        if not self.is_there:
            self._download("not all of them", f"copy {self._files} there")
        yield f"torchvision {self.name} {self._root}"
        for name, path in zip(self._published.files, self._paths(), strict=True):
            status = path.stat()
            yield FileEntry(name, status.st_size, status.st_mtime_ns).identity()

    def listing(self) -> Listing:
        """List the images in torchvision's order, the training images first."""
        labels, num_train = self._loaded.labels, self._loaded.num_train
        known = KNOWN[self.name]
        names = known.class_names or tuple(map(str, range(known.num_classes)))
        return Listing(names, labels, np.arange(len(labels)) >= num_train)

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`."""
        for row in rows:
            yield EncodedImage(
                f"{self.name} {row}", partial(self._loaded.pixels.__getitem__, int(row))
            )

    def _paths(self) -> list[Path]:
        return [self._root / name for name in self._published.files]

    @property
    def _files(self) -> str:
        return " ".join(self._published.files)

    @cached_property
    def _loaded(self) -> _Loaded:
        """All images; where torchvision finds a file damaged, it downloads it again."""
        try:
            return self._load(download=False)
        except MemoryError:
            raise
        except Exception as error:  # torchvision has no type of its own for damaged files
            _log.info("%s: %s", self.name, _one_line(error))
            return self._download("damaged ones", f"remove {self._files} and try again")

    def _download(self, found: str, remedy: str) -> _Loaded:
        """Have torchvision download what is missing, and read it; other processes wait."""
        _log.info("downloading %s into %s", self.name, self._root)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(self._root / f".{self.name}.lock"), _giving_up_when_stalled():
                return self._load(download=True)
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(
                f"expected the files of {self.name} in {self._root}, found {found}, and "
                f"downloading them failed ({_one_line(error)}): {remedy}, or give the folder that "
                "has them with --data-root"
            ) from error

    def _load(self, *, download: bool) -> _Loaded:
        """Read both splits; torchvision compares checksums before it unpickles CIFAR."""
        # It takes seconds to import, which other sources and decoded images do not need.
        kind = getattr(importlib.import_module("torchvision.datasets"), self._published.kind)
        splits = [
            kind(self._root, download=download, **_choice(self.name, split))
            for split in ("train", "test")
        ]
        labels = [np.asarray(_labels(split), dtype=np.int64) for split in splits]
        pixels = np.concatenate([_pixels(split) for split in splits])
        num_classes = KNOWN[self.name].num_classes
        numbers = np.concatenate(labels)
        if len(numbers) != len(pixels) or not ((numbers >= 0) & (numbers < num_classes)).all():
            raise ValueError(f"labels do not fit {len(pixels)} images of {num_classes} classes")
        return _Loaded(pixels, numbers, len(labels[0]))


def _choice(word: str, split: str) -> dict[str, Any]:
    return {"split": split} if word == "svhn" else {"train": split == "train"}


def _labels(dataset: Any) -> Any:
    return dataset.labels if hasattr(dataset, "labels") else dataset.targets


def _pixels(dataset: Any) -> NDArray[np.uint8]:
    """(N, H, W) or (N, H, W, 3): SVHN alone has its channels first."""
    pixels = np.asarray(dataset.data, dtype=np.uint8)
    if pixels.ndim == 4 and pixels.shape[-1] != 3:
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    return pixels


@contextmanager
def _giving_up_when_stalled() -> Iterator[None]:
    """Bound how long torchvision waits for a server; it sets no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALLED_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
