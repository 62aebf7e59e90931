"""What is counted over the images of one class while their bytes pass: the class's record."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from idm_ray.data.manifest import ClassRecord
from idm_ray.data.shard_index import DIGEST_BYTES, SCHEMA

_VALUES = np.arange(256, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What a class's record needs to know of one image.

    Attributes:
        length: of its bytes.
        digest: the beginning of their SHA-256.
        channels: 1 or 3.
        sides: height and width.
        sums: (2, 3) int64, of values and of squared values, in red, green and blue.
    """

    length: int
    digest: bytes
    channels: int
    sides: tuple[int, int]
    sums: NDArray[np.int64]


def measure(content: bytes, pixels: NDArray[np.uint8]) -> ImageFacts:
    """Take down the facts of an image.

    Args:
        content: its bytes, as they are stored.
        pixels: (1, H, W) or (3, H, W), decoded.
    """
    counts = np.array([np.bincount(channel.ravel(), minlength=256) for channel in pixels])
    sums = np.array([counts @ _VALUES, counts @ _VALUES**2])
    return ImageFacts(
        length=len(content),
        digest=hashlib.sha256(content).digest()[:DIGEST_BYTES],
        channels=len(pixels),
        sides=(pixels.shape[1], pixels.shape[2]),
        sums=np.broadcast_to(sums, (2, 3)),  # grey counts as all three
    )


class Tally:
    """Adds up the images of one class of one split, in their order."""

    def __init__(self) -> None:
        self._columns: tuple[list[object], ...] = tuple([] for _ in SCHEMA)
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._pixels = 0
        self._channels = 1
        self._sides: set[tuple[int, int]] = set()
        self._sums = np.zeros((2, 3), dtype=np.int64)

    def add(self, facts: ImageFacts, *, key: str, shard: int, offset: int) -> None:
        """Take in an image.

        Args:
            facts: of it.
            key: its name in the shard.
            shard: number of the shard.
            offset: where its bytes begin in the shard.
        """
        row = (key, shard, offset, facts.length, facts.digest)
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)
        self._digest.update(facts.digest)
        self._bytes += facts.length
        self._pixels += facts.sides[0] * facts.sides[1]
        self._channels = max(self._channels, facts.channels)
        self._sides.add(facts.sides)
        self._sums += facts.sums

    def record(self) -> ClassRecord:
        """Return what was added up."""
        sums, squares = self._sums.tolist()
        return ClassRecord(
            images=len(self._columns[0]),
            encoded_bytes=self._bytes,
            digest=self._digest.hexdigest(),
            channels=self._channels,
            sides=next(iter(self._sides)) if len(self._sides) == 1 else None,
            pixels=self._pixels,
            sums=(sums[0], sums[1], sums[2]),
            squares=(squares[0], squares[1], squares[2]),
        )

    def table(self) -> pa.Table:
        """Return the rows of the index."""
        columns = zip(self._columns, SCHEMA, strict=True)
        return pa.Table.from_arrays([pa.array(c, f.type) for c, f in columns], schema=SCHEMA)
