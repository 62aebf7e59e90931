"""Images of shards by row number: read where they lie, decoded, and kept for the next time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idm_ray.data.decode import decode, ignore_pillow_warnings
from idm_ray.data.images import Batch, Rows
from idm_ray.data.listing import EncodedImage
from idm_ray.data.manifest import SplitName
from idm_ray.data.node_cache import NodeCache
from idm_ray.data.read_ahead import ReadAhead
from idm_ray.data.shard_index import Members
from idm_ray.data.shard_reader import Request, is_intact, requests
from idm_ray.data.shard_set import ShardSet
from idm_ray.data.splits import spread
from idm_ray.errors import DataError
from idm_ray.host import num_cores
from idm_ray.storage import Location

_REMOTE_READERS = 16
"""Threads, where reading is mostly waiting for the network."""
_SHARES = 8
"""Of a batch for each thread: few, since handing one over costs, but so that all end together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardView:
    """Which images of a set are used, and how.

    Attributes:
        split: of the set.
        labels: of the set's classes, in the order of the run's.
        counts: images of each that are used.
        image_shape: (C, H, W).
        size: as `decode` takes it.
    """

    split: SplitName
    labels: tuple[int, ...]
    counts: tuple[int, ...]
    image_shape: tuple[int, int, int]
    size: int | None


class ShardImages:
    """The images of one split; `take` and `expect` are for one thread.

    Args:
        shards: the set.
        view: what of it.
        cache: for the images of both splits; None keeps nothing.
        first_row: of this split in the cache.
    """

    def __init__(
        self, shards: ShardSet, view: ShardView, cache: NodeCache | None, first_row: int
    ) -> None:
        ignore_pillow_warnings()
        self._shards = shards
        self._view = view
        self._cache = cache
        self._first_row = first_row
        self._offsets = np.cumsum((0, *view.counts), dtype=np.int64)
        self._members: dict[int, Members] = {}
        self._names: dict[int, pa.StringArray] = {}
        self._ahead = ReadAhead(self.load, int(np.prod(view.image_shape)))
        self._lock = threading.Lock()
        self.images_decoded = 0

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def take(self, rows: Rows) -> Batch:
        """Give some images, those announced without reading them again."""
        batch = self._ahead.take(rows)
        return self.load(rows) if batch is None else batch

    def expect(self, rows: Rows) -> None:
        """Load them in the background."""
        self._ahead.expect(rows)

    def close(self) -> None:
        """Load nothing in the background any more."""
        self._ahead.close()

    def load(self, rows: Rows) -> Batch:
        """Give some images, from the cache or out of the shards; any thread may call it.

        Raises:
            DataError: The shards changed or cannot be read any more.
        """
        kept = self.kept(rows)
        if self._cache is not None and kept.all():
            return self._cache.read(rows + self._first_row)
        batch = np.empty((len(rows), *self._view.image_shape), dtype=np.uint8)
        if self._cache is not None and kept.any():
            batch[kept] = self._cache.read(rows[kept] + self._first_row)
        missing = np.flatnonzero(~kept)
        wanted, first, again = np.unique(rows[missing], return_index=True, return_inverse=True)
        self._read(wanted, missing[first], batch)
        if len(wanted) < len(missing):
            batch[missing] = batch[missing[first][again]]
        return batch

    def members(self, c: int) -> Members:
        """Where the images of class `c` of the run lie: those that are used, in row order."""
        if c not in self._members:
            whole = self._shards.members(self._view.split, self._view.labels[c])
            used = spread(len(whole.offsets), self._view.counts[c])
            self._members[c] = whole.take(used)
        return self._members[c]

    def shards_used(self) -> NDArray[np.int64]:
        """Numbers of the shards in which images of this split lie."""
        used = [self.members(c).shards for c in range(len(self._view.counts))]
        return np.unique(np.concatenate(used)).astype(np.int64)

    def stream(self, shard: int) -> Location:
        """Where a shard lies that is about to be read as a whole, which counts as read."""
        self._shards.reader.count(self._shards.manifest.shards[shard].size)
        return self._shards.locations[shard]

    def rows_by_key(self, shard: int) -> dict[str, int]:
        """Rows of the images in a shard, by their names in it."""
        rows: dict[str, int] = {}
        for c in range(len(self._view.counts)):
            inside = np.flatnonzero(self.members(c).shards == shard)
            if len(inside):
                names = self._keys(c).take(pa.array(inside)).to_pylist()
                rows |= dict(zip(names, (self._offsets[c] + inside).tolist(), strict=True))
        return rows

    def _keys(self, c: int) -> pa.StringArray:
        """Names of the images of class `c` of the run, in row order."""
        if c not in self._names:  # parsed once: shards of others hold all classes each
            keys = self._shards.keys(self._view.split, self._view.labels[c])
            self._names[c] = keys.take(pa.array(spread(len(keys), self._view.counts[c])))
        return self._names[c]

    def kept(self, rows: Rows) -> NDArray[np.bool_]:
        """Which images are in the cache."""
        if self._cache is None:
            return np.zeros(len(rows), dtype=np.bool_)
        return self._cache.present(rows + self._first_row)

    @property
    def cache_is_full(self) -> bool:
        """Whether no more images can be kept."""
        return self._cache is None or bool(self._cache.full)

    def finish_cache(self) -> None:
        """Make the cache outlive the machine's next start, if it is complete."""
        if self._cache is not None:
            self._cache.finish()

    def offer(self, row: int, content: bytes) -> None:
        """Keep an image unless it is there; other bytes than the index has are ignored."""
        c = int(np.searchsorted(self._offsets, row, side="right")) - 1
        position = row - int(self._offsets[c])
        if not self.kept(np.array([row]))[0] and is_intact(self.members(c), position, content):
            self._decode(row, content)
            self._count(1)

    def _count(self, images: int) -> None:
        with self._lock:
            self.images_decoded += images

    def _decode(self, row: int, content: bytes) -> NDArray[np.uint8]:
        """Decode an image, (C, H, W), and keep it in the cache."""
        where = f"image {row} of the {self._view.split} images"
        pixels = decode(EncodedImage(where, lambda: content), self._view.size)
        if pixels.shape != self._view.image_shape:  # grey among coloured ones, else another size
            pixels = np.broadcast_to(pixels, (self._view.image_shape[0], *pixels.shape[1:]))
        if pixels.shape != self._view.image_shape:
            raise DataError(f"expected {self._view.image_shape} pixels, found {pixels.shape}")
        if self._cache is not None:
            self._cache.store(row + self._first_row, pixels)
        return pixels

    def _read(self, rows: Rows, places: NDArray[np.int64], batch: Batch) -> None:
        """Read ascending rows out of the shards, into these places of a batch."""
        jobs = list(self._requests(rows))

        def fill(some: list[tuple[int, Request]]) -> None:
            for c, request in some:
                for position, content in self._shards.reader.read(self.members(c), request):
                    row = int(self._offsets[c]) + position
                    batch[places[np.searchsorted(rows, row)]] = self._decode(row, content)
            self._count(sum(len(request) for _, request in some))

        is_local = self._shards.locations[0].local is not None
        threads = num_cores() if is_local else _REMOTE_READERS
        size = max(1, len(jobs) // (threads * _SHARES))
        shares = [jobs[n : n + size] for n in range(0, len(jobs), size)]
        for _ in decoders(threads).map(fill, shares):
            pass

    def _requests(self, rows: Rows) -> Iterator[tuple[int, Request]]:
        classes = np.searchsorted(self._offsets, rows, side="right") - 1
        for c in np.unique(classes).tolist():
            positions = rows[classes == c] - self._offsets[c]
            for request in requests(self.members(c), positions):
                yield c, request


@cache
def decoders(num_threads: int) -> ThreadPoolExecutor:
    """The threads of this process that decode, shared by all its images."""
    return ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
