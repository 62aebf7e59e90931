"""Decodes a source once into two uint8 arrays, sorted by class, with bounded memory."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.arrays import chunks, create, fingerprint, statistics
from idm_ray.data.decode import UnreadableImageError, decode, ignore_pillow_warnings
from idm_ray.data.listing import PROBLEMS_KEPT, EncodedImage, Listing, Source
from idm_ray.data.splits import check_counts, check_usable, train_rows
from idm_ray.errors import DataError
from idm_ray.host import num_cores

TRAIN_FILE = "train.npy"
TEST_FILE = "test.npy"
_SMALL_PIXELS = 64 * 64
"""Below this, threads wait longer for Python's global lock than one takes to decode."""
_SMALL_BATCH, _LARGE_BATCH = 256, 16
"""Images that a thread is given at a time, still encoded; it holds one decoded image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltData:
    """What is known of the decoded arrays, beside their pixels."""

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """C, H, W; C is 1 if every image is grey."""
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    mean: tuple[float, ...]
    """Per channel, of the training pixels in [0, 1]."""
    std: tuple[float, ...]
    """As `mean`; 1.0 for a constant channel."""
    fingerprint: str
    skipped: int
    unreadable: tuple[str, ...]
    """The first few of the skipped images, each with its reason."""


class _SplitWriter:
    """Decodes the images of one split into its file; several threads may call it at once."""

    def __init__(self, path: Path, labels: NDArray[np.int64], side: tuple[int, int]) -> None:
        """Create the file.

        Args:
            path: Where.
            labels: (N,) labels in the order in which images arrive.
            side: Height and width that every image must have.
        """
        arrival = np.argsort(labels, kind="stable")
        self.path = path
        self.labels = labels[arrival]
        self.images = create(path, (len(labels), 3, *side))
        self.channels = np.zeros(len(labels), dtype=np.uint8)
        """(N,) channels of each image as it was found, 0 where it could not be read."""
        self.problems: dict[int, str] = {}
        self._places = np.argsort(arrival)

    def write(self, jobs: list[tuple[int, EncodedImage]], size: int | None) -> None:
        """Decode images into their places in class order.

        Args:
            jobs: Images with their number in the order of arrival.
            size: As in `decode`.

        Raises:
            DataError: An image has another size than the others.
        """
        for arrival, encoded in jobs:
            try:
                pixels = decode(encoded, size)
            except UnreadableImageError as error:
                self.problems[arrival] = str(error)
                continue
            self._check_size(pixels, encoded.name)
            place = self._places[arrival]
            self.images[place] = pixels  # a grey image fills all three channels
            self.channels[place] = len(pixels)

    def _check_size(self, pixels: NDArray[np.uint8], name: str) -> None:
        (height, width), (other_height, other_width) = self.images.shape[2:], pixels.shape[1:]
        if (height, width) != (other_height, other_width):
            raise DataError(
                f"expected images of one size, found {width}x{height} and "
                f"{other_width}x{other_height} ({name}): give --size to bring them to one"
            )

    def counts(self, num_classes: int) -> NDArray[np.int64]:
        """Count the images that could be read, per class."""
        return np.bincount(self.labels[self.channels > 0], minlength=num_classes)

    def finish(self, num_channels: int) -> None:
        """Bring the file to its final shape: without gaps, and one channel if all is grey."""
        if num_channels < 3 or not self.channels.all():
            kept = np.flatnonzero(self.channels)
            scratch = self.path.with_suffix(".part")
            final = create(scratch, (len(kept), num_channels, *self.images.shape[2:]))
            for chunk in chunks(final):
                final[chunk] = self.images[kept[chunk], :num_channels]
            scratch.replace(self.path)
            self.images = final
        self.images.flush()


def build(
    source: Source, *, size: int | None, limit_per_class: int | None, folder: Path
) -> BuiltData:
    """Decode a source into `train.npy` and `test.npy`: (N, C, H, W) uint8, sorted by class.

    Args:
        source: Where the images come from.
        size: As in `decode`.
        limit_per_class: As in `splits.train_rows`.
        folder: An existing folder for the two files.

    Returns:
        Counts, statistics and fingerprint of what was written.

    Raises:
        DataError: The source is unusable, or its images differ in size.
        OSError: The folder cannot be written to, or the disk is full.
    """
    listing = source.listing()
    train = train_rows(listing, limit_per_class)
    test = np.flatnonzero(listing.is_test)
    check_counts(listing.class_names, _counts(listing, train), _counts(listing, test))
    ignore_pillow_warnings()
    side = _find_side(source, np.sort(np.concatenate((train, test))), size)
    writers = [
        _write_split(source, listing, rows, folder / name, side=side, size=size)
        for rows, name in ((train, TRAIN_FILE), (test, TEST_FILE))
    ]
    problems = [text for writer in writers for _, text in sorted(writer.problems.items())]
    counts = [writer.counts(len(listing.class_names)) for writer in writers]
    check_usable(listing.class_names, *counts, skipped=len(problems), problems=problems)
    num_channels = max(int(writer.channels.max()) for writer in writers)
    for writer in writers:
        writer.finish(num_channels)
    return _describe(listing.class_names, writers, problems)


def _counts(listing: Listing, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(listing.labels[rows], minlength=len(listing.class_names))


def _find_side(source: Source, rows: NDArray[np.int64], size: int | None) -> tuple[int, int]:
    """Return height and width of the first image that can be read, which the others must share."""
    problem = ""
    for encoded in source.read(rows):
        try:
            _, height, width = decode(encoded, size).shape
            return height, width
        except UnreadableImageError as error:
            problem = problem or str(error)
    raise DataError(
        f"expected images, found that none of {len(rows)} can be read ({problem}): check the files"
    )


def _write_split(
    source: Source,
    listing: Listing,
    rows: NDArray[np.int64],
    path: Path,
    *,
    side: tuple[int, int],
    size: int | None,
) -> _SplitWriter:
    """Decode the images at `rows`, in several threads if they are large enough to gain by it."""
    writer = _SplitWriter(path, listing.labels[rows], side)
    is_small = size is None and side[0] * side[1] < _SMALL_PIXELS  # else files may be far larger
    num_threads = 1 if is_small else num_cores()
    batch_images = _SMALL_BATCH if is_small else _LARGE_BATCH
    arriving = enumerate(source.read(rows))
    pending: deque[Future[None]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        while batch := list(islice(arriving, batch_images)):
            pending.append(pool.submit(writer.write, batch, size))
            if len(pending) > num_threads:  # reading must not run ahead of decoding
                pending.popleft().result()
        for job in pending:
            job.result()
    return writer


def _describe(
    class_names: tuple[str, ...], writers: list[_SplitWriter], problems: list[str]
) -> BuiltData:
    train, test = writers
    num_classes = len(class_names)
    mean, std = statistics(train.images)
    _, channels, height, width = train.images.shape
    counts = [tuple(writer.counts(num_classes).tolist()) for writer in writers]
    return BuiltData(
        class_names=class_names,
        image_shape=(channels, height, width),
        train_counts=counts[0],
        test_counts=counts[1],
        mean=mean,
        std=std,
        fingerprint=fingerprint([class_names, *counts], train.images, test.images),
        skipped=len(problems),
        unreadable=tuple(problems[:PROBLEMS_KEPT]),
    )
