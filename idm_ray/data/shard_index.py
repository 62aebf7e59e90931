"""The index of a set of shards: which bytes of which shard are which image of which class.

One Parquet file; a row group holds one class of one split, so that a reader of some classes parses
only theirs.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from idm_ray.errors import DataError

DIGEST_BYTES = 16
"""Of an image's SHA-256: a third of the index is digests, and half of one is enough to tell."""
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("digest", pa.binary(DIGEST_BYTES)),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Where the N images of a class lie, in their order.

    Attributes:
        shards: (N,) int32 numbers of shards.
        offsets: (N,) int64, where an image's bytes begin in its shard.
        lengths: (N,) int64, how many they are.
        digests: (N, 16) uint8, the beginning of their SHA-256.
    """

    shards: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    digests: NDArray[np.uint8]

    def take(self, positions: NDArray[np.int64]) -> "Members":
        """Choose some of the images."""
        return Members(
            self.shards[positions],
            self.offsets[positions],
            self.lengths[positions],
            self.digests[positions],
        )


class ShardIndex:
    """An index in memory, parsed class by class.

    Args:
        content: of the Parquet file.
        counts: images of each class of each split, in the order of the row groups; a class without
            images has no row group.
        where: it lies, for messages.

    Raises:
        DataError: it is no index, or does not fit the counts.
    """

    def __init__(self, content: bytes, counts: Sequence[int], where: str) -> None:
        self._where = where
        self._content = content
        groups = [n for n, count in enumerate(counts) if count]
        self._group_of = {n: group for group, n in enumerate(groups)}
        with self._damage_told():
            file = pq.ParquetFile(pa.BufferReader(content))
        if not file.schema_arrow.equals(SCHEMA):
            raise DataError(f"expected the columns {SCHEMA.names} in {where}: copy it again")
        # Parsed once: it is as long as there are classes.
        self._metadata = file.metadata
        found = [self._metadata.row_group(g).num_rows for g in range(self._metadata.num_row_groups)]
        if found != [counts[n] for n in groups]:
            raise DataError(f"expected {where} to fit its manifest, found other counts: copy both")

    def members(self, number: int) -> Members:
        """Parse one class of one split, by its place in `counts`; any thread may."""
        if number not in self._group_of:
            return _NO_MEMBERS
        return _members(self._read(number, [name for name in SCHEMA.names if name != "key"]))

    def keys(self, number: int) -> pa.StringArray:
        """Parse the names of one class's images within their shards; any thread may."""
        if number not in self._group_of:
            return pa.array([], pa.string())
        return self._read(number, ["key"]).column("key").combine_chunks()

    def _read(self, number: int, names: list[str]) -> pa.Table:
        # A file of its own for each call: one cannot be read by several threads at once.
        with self._damage_told():
            file = pq.ParquetFile(pa.BufferReader(self._content), metadata=self._metadata)
            # Arrow's threads could hold the content for longer than this takes: see
            # `results.reading`.
            table = file.read_row_group(self._group_of[number], columns=names, use_threads=False)
            table.validate(full=True)
            if any(column.null_count for column in table.columns):
                raise pa.ArrowInvalid("a value is missing")
        return table

    @contextlib.contextmanager
    def _damage_told(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"expected the index of a set of shards, found {self._where} damaged: copy it again"
            ) from error


def are_within(members: Members, sizes: NDArray[np.int64]) -> bool:
    """Whether all images lie in shards of (S,) sizes: an index may come from a stranger."""
    if not ((members.shards >= 0) & (members.shards < len(sizes))).all():
        return False
    room = sizes[members.shards] - members.offsets
    return bool(((members.offsets >= 0) & (members.lengths > 0) & (members.lengths <= room)).all())


def write_index(tables: Iterable[pa.Table]) -> bytes:
    """Put the tables of all classes, of `SCHEMA`, into one Parquet file."""
    file = io.BytesIO()
    with pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for table in tables:
            if table.num_rows:
                writer.write_table(table, row_group_size=table.num_rows)
    return file.getvalue()


_NO_MEMBERS = Members(
    np.zeros(0, np.int32),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros((0, DIGEST_BYTES), np.uint8),
)


def _members(table: pa.Table) -> Members:
    digests = table.column("digest").combine_chunks()
    first = digests.offset * DIGEST_BYTES
    flat = np.frombuffer(digests.buffers()[1], dtype=np.uint8)[first:]
    return Members(
        table.column("shard").to_numpy(),
        table.column("offset").to_numpy(),
        table.column("length").to_numpy(),
        flat[: len(digests) * DIGEST_BYTES].reshape(-1, DIGEST_BYTES),
    )
