"""What is counted over the images of one class while their bytes pass: the class's record."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idm_ray.data.manifest import ClassRecord
from idm_ray.data.shard_index import DIGEST_BYTES, SCHEMA

_VALUES = np.arange(256, dtype=np.int64)


class Tally:
    """Adds up the images of one class of one split, in their order."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, int, int, int, bytes]] = []
        self._digest = hashlib.sha256()
        self._channels = 1
        self._sides: set[tuple[int, int]] = set()
        self._counts = np.zeros((3, 256), dtype=np.int64)
        """Of each 8-bit value in red, green and blue."""

    def add(
        self, content: bytes, pixels: NDArray[np.uint8], *, key: str, shard: int, offset: int
    ) -> None:
        """Take in an image.

        Args:
            content: its bytes, as they are stored.
            pixels: (1, H, W) or (3, H, W), decoded.
            key: its name in the shard.
            shard: number of the shard.
            offset: where its bytes begin in the shard.
        """
        digest = hashlib.sha256(content).digest()[:DIGEST_BYTES]
        self._rows.append((key, shard, offset, len(content), digest))
        self._digest.update(digest)
        self._channels = max(self._channels, len(pixels))
        self._sides.add((pixels.shape[1], pixels.shape[2]))
        for channel, counts in enumerate(self._counts):
            values = pixels[channel % len(pixels)].ravel()  # grey counts as all three
            counts += np.bincount(values, minlength=256)

    def record(self) -> ClassRecord:
        """Return the sums so far."""
        sums = (self._counts * _VALUES).sum(axis=1).tolist()
        squares = (self._counts * _VALUES**2).sum(axis=1).tolist()
        return ClassRecord(
            images=len(self._rows),
            encoded_bytes=sum(length for _, _, _, length, _ in self._rows),
            digest=self._digest.hexdigest(),
            channels=self._channels,
            sides=self._sides.copy().pop() if len(self._sides) == 1 else None,
            pixels=int(self._counts[0].sum()),
            sums=tuple(sums),
            squares=tuple(squares),
        )

    def table(self) -> pa.Table:
        """Return the rows of the index."""
        columns = zip(*self._rows, strict=True) if self._rows else iter([()] * len(SCHEMA))
        return pa.Table.from_arrays(list(_arrays(columns)), schema=SCHEMA)


def _arrays(columns: Iterator[tuple[object, ...]]) -> Iterator[pa.Array]:
    for field, column in zip(SCHEMA, columns, strict=True):
        yield pa.array(column, field.type)
