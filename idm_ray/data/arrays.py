"""Large uint8 image arrays in files: creating them, and what is computed over all their pixels."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

Pixels = np.memmap[tuple[int, ...], np.dtype[np.uint8]]
"""(N, C, H, W) in a file."""

_CHUNK_BYTES = 1 << 24


def create(path: Path, shape: tuple[int, ...]) -> Pixels:
    """Create an array file and its memory map, with its disk space reserved.

    Returns:
        The map, writable and all zeros.

    Raises:
        OSError: There is not enough space. Without the reservation a disk that fills up later
            would kill the process (SIGBUS) instead.
    """
    images = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return images


def chunks(images: Pixels) -> Iterator[slice]:
    """Cut the rows of an array into slices of bounded size."""
    rows = max(1, _CHUNK_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), rows):
        yield slice(start, min(start + rows, len(images)))


def statistics(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel, of pixels in [0, 1].

    Returns:
        Two tuples of C values with four decimals, from exact counts of the 256 pixel values. A
        constant channel gets a deviation of 1, with which it becomes nearly zero; a tiny one would
        blow up the rounding of the mean.
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for chunk in chunks(images):
        for channel, values in enumerate(np.moveaxis(images[chunk], 1, 0)):
            counts[channel] += np.bincount(values.ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)
    brightness = np.arange(256) / 255
    mean = share @ brightness
    variance = (share * (brightness - mean[:, np.newaxis]) ** 2).sum(axis=1)
    std = np.round(np.sqrt(variance), 4)
    return tuple(np.round(mean, 4).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def fingerprint(labels: object, *splits: Pixels) -> str:
    """Compute the SHA-256, in hexadecimal, of images and of what `labels` says about them.

    Args:
        labels: Whatever `json` can write: here the class names and the images of each class.
        splits: Arrays whose shapes and pixels count.
    """
    digest = hashlib.sha256(json.dumps(labels).encode())
    for images in splits:
        digest.update(repr(images.shape).encode())
        for chunk in chunks(images):
            digest.update(images[chunk].data)
    return digest.hexdigest()
