"""Reads images out of shards by their place in them: few requests, and every byte checked."""

import hashlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.shard_index import DIGEST_BYTES, Members
from idm_ray.errors import DataError
from idm_ray.storage import Location, RandomReader

_GAP_BYTES = 4096
"""Between images that are read in one request: their tar headers and labels."""
_REQUEST_BYTES = 4 << 20
"""A request ends at the first image after this many."""

Request = NDArray[np.int64]
"""(K,) positions, in the order in which they lie, of images to read with one request."""


class ShardReader:
    """Reads from the shards of one set; any threads may use it at once.

    Args:
        shards: where they are.
        sizes: of each, in bytes.
    """

    def __init__(self, shards: Sequence[Location], sizes: Sequence[int]) -> None:
        self._shards = shards
        self._sizes = sizes
        self._remote: dict[int, RandomReader] = {}
        self._lock = threading.Lock()
        self.bytes_requested = 0
        """So far."""

    def __reduce__(self) -> tuple[type["ShardReader"], tuple[object, ...]]:
        """Go to another process without what is open here."""
        return type(self), (self._shards, self._sizes)

    def count(self, num_bytes: int) -> None:
        """Take note of bytes that were requested, here or beside this reader."""
        with self._lock:
            self.bytes_requested += num_bytes

    def read(self, members: Members, request: Request) -> Iterator[tuple[int, bytes]]:
        """Yield position and bytes of each image of a request.

        Args:
            members: of a class.
            request: one of those that `requests` makes for them.

        Raises:
            DataError: The shard is gone, or not as it was when it was indexed.
        """
        shard = int(members.shards[request[0]])
        first = int(members.offsets[request[0]])
        stop = int(members.offsets[request[-1]] + members.lengths[request[-1]])
        content = memoryview(self._read_at(shard, first, stop - first))
        self.count(stop - first)
        for position in request.tolist():
            begin = int(members.offsets[position]) - first
            image = bytes(content[begin : begin + int(members.lengths[position])])
            if not is_intact(members, position, image):
                raise DataError(
                    f"expected {self._shards[shard]} as it was when it was indexed, found other "
                    f"bytes at {members.offsets[position]}: restore it, or write the shards again"
                )
            yield position, image

    def _read_at(self, shard: int, offset: int, length: int) -> bytes:
        location, size = self._shards[shard], self._sizes[shard]
        if location.local is not None:  # opening costs nothing; hundreds of descriptors would
            with location.open_random(size) as reader:
                return reader.read_at(offset, length)
        if shard not in self._remote:  # two threads may open it: better than waiting for each other
            self._remote.setdefault(shard, location.open_random(size))
        return self._remote[shard].read_at(offset, length)


def is_intact(members: Members, position: int, image: bytes) -> bool:
    """Whether an image's bytes are those that were indexed."""
    digest = hashlib.sha256(image).digest()[:DIGEST_BYTES]
    return digest == bytes(members.digests[position])


def requests(members: Members, positions: NDArray[np.int64]) -> Iterator[Request]:
    """Cut some images of a class into requests of neighbours.

    Args:
        members: of the class.
        positions: (B,) different positions of images, in any order.
    """
    order = positions[np.lexsort((members.offsets[positions], members.shards[positions]))]
    ends = members.offsets[order] + members.lengths[order]
    begin = 0
    for next_ in range(1, len(order) + 1):
        if next_ < len(order):
            gap = members.offsets[order[next_]] - ends[next_ - 1]
            together = members.shards[order[next_]] == members.shards[order[begin]]
            so_far = ends[next_ - 1] - members.offsets[order[begin]]
            if together and 0 <= gap <= _GAP_BYTES and so_far < _REQUEST_BYTES:
                continue
        yield order[begin:next_]
        begin = next_
