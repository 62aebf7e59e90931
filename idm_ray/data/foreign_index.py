"""Makes index and manifest of strangers' shards, shard after shard, in a folder on this machine.

Each shard that was read leaves a part, so that indexing that was killed goes on where it was. All
that is held at once is in columns: about a hundred bytes for each image.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from idm_ray.data.decode import ignore_pillow_warnings
from idm_ray.data.foreign_scan import scan
from idm_ray.data.listing import IMAGE_SUFFIXES, PROBLEMS_KEPT
from idm_ray.data.manifest import (
    INDEX_FILE,
    MANIFEST_FILE,
    SPLITS,
    ClassRecord,
    FileRecord,
    Manifest,
)
from idm_ray.data.shard_index import DIGEST_BYTES, SCHEMA, write_index
from idm_ray.data.splits import hold_out
from idm_ray.errors import DataError
from idm_ray.host import num_cores
from idm_ray.local_disk import atomic_write
from idm_ray.storage import Location

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Parts:
    """What is known of N images in S shards.

    Attributes:
        files: (S) one for each shard, of `foreign_scan.IMAGES`.
        counts: (S,) images of each.
        class_names: of labels 0, 1, 2, ...
        labels: (N,) int32, in the order of shards.
        problems: the first few.
        skipped: how many there are.
    """

    files: Sequence[Path]
    counts: NDArray[np.int64]
    class_names: tuple[str, ...]
    labels: NDArray[np.int32]
    problems: tuple[str, ...]
    skipped: int


def index_shards(
    shards: Sequence[Location], sizes: Sequence[int], test_fraction: float, folder: Path
) -> None:
    """Write index and manifest, the manifest last.

    Args:
        shards: plain tar files.
        sizes: of each, in bytes.
        test_fraction: of each class that is held out.
        folder: of the index; parts that are in it already are those of these shards.

    Raises:
        DataError: a shard is cut short or damaged, no image can be used, or nothing can be written.
    """
    ignore_pillow_warnings()
    files = [folder / f"shard-{n:05d}.parquet" for n in range(len(shards))]
    _log.info("indexing %d shards, from %s on, in %s", len(shards), shards[0], folder)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(num_cores()) as pool:
        for done, _ in enumerate(pool.map(_scan_once, shards, sizes, files), start=1):
            _log.info("indexed %d of %d shards", done, len(shards))
    parts = _gather(files, shards)
    records = [
        FileRecord(path=str(shard), size=size, sha256="")
        for shard, size in zip(shards, sizes, strict=True)
    ]
    index, manifest = _assemble(parts, test_fraction, shards[0].parent.name, records)
    _write(folder / INDEX_FILE, index)
    _write(folder / MANIFEST_FILE, manifest.to_json().encode())
    for file in files:
        with writing_to(folder):
            file.unlink()


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Says which folder it is where nothing can be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"expected a folder to write the index of the shards to, found {folder} with: "
            f"{error.strerror or error}; give another with --cache-dir (TMPDIR with --cache none)"
        ) from error


def _write(file: Path, content: bytes) -> None:
    with writing_to(file.parent), atomic_write(file) as target:
        target.write(content)


def _scan_once(shard: Location, size: int, file: Path) -> None:
    """Write the part of a shard unless it is there."""
    if _is_whole(file):
        return
    scanned = scan(shard, size)
    about = json.dumps({"skipped": scanned.skipped, "problems": scanned.problems})
    content = pa.BufferOutputStream()
    pq.write_table(scanned.images.replace_schema_metadata({"about": about}), content)
    _write(file, content.getvalue().to_pybytes())


def _is_whole(file: Path) -> bool:
    try:
        return b"about" in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _gather(files: Sequence[Path], shards: Sequence[Location]) -> _Parts:
    """Read labels and problems of all parts."""
    counts, codes, of_shards = [], [], []
    skipped, problems = 0, list[str]()
    for file in files:
        table = _read(file, "label")
        about = json.loads(table.schema.metadata[b"about"])
        skipped += about["skipped"]
        problems += about["problems"][: PROBLEMS_KEPT - len(problems)]
        encoded = table.column("label").combine_chunks().dictionary_encode()
        codes.append(encoded.indices.to_numpy())
        of_shards.append(encoded.dictionary.to_pylist())
        counts.append(len(codes[-1]))
    class_names = _in_order({label for labels in of_shards for label in labels})
    if not class_names:
        reason = f" (the first problem: {problems[0]})" if problems else ""
        raise DataError(
            f"expected images ({' '.join(IMAGE_SUFFIXES)}) with labels (cls or json) in "
            f"{shards[0]}, found none{reason}: give shards in WebDataset's form"
        )
    number = {name: label for label, name in enumerate(class_names)}
    labels = [
        np.array([number[name] for name in names], dtype=np.int32)[some]
        for names, some in zip(of_shards, codes, strict=True)
        if names
    ]
    return _Parts(
        files=files,
        counts=np.array(counts, dtype=np.int64),
        class_names=class_names,
        labels=np.concatenate(labels),
        problems=tuple(problems),
        skipped=skipped,
    )


def _in_order(labels: set[str]) -> tuple[str, ...]:
    """Sort class names, numbers as numbers."""
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def _assemble(
    parts: _Parts, test_fraction: float, name: str, shards: Sequence[FileRecord]
) -> tuple[bytes, Manifest]:
    """Make the index, and the manifest that fits it."""
    num_classes = len(parts.class_names)
    is_test = hold_out(parts.labels.astype(np.int64), test_fraction)
    groups = parts.labels + is_test.astype(np.int32) * np.int32(num_classes)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=len(SPLITS) * num_classes))
    rows = np.split(order, ends[:-1])
    table = _index_table(parts)
    index = write_index(table.take(pa.array(some)) for some in rows if len(some))
    records = _records(parts, groups, rows, table)
    manifest = Manifest(
        name=name,
        known_as=None,
        class_names=parts.class_names,
        train=records[:num_classes],
        test=records[num_classes:],
        shards=tuple(shards),
        index=FileRecord.of(INDEX_FILE, index),
        skipped=parts.skipped,
        problems=parts.problems,
    )
    return index, manifest


def _index_table(parts: _Parts) -> pa.Table:
    """The rows of the index in the order of shards, each column in one piece.

    Column by column, since putting chunks together takes the room of both.
    """
    columns = {}
    for name in SCHEMA.names:
        if name == "shard":
            numbers = np.repeat(np.arange(len(parts.files), dtype=np.int32), parts.counts)
            columns[name] = pa.array(numbers)
        else:
            columns[name] = pa.concat_arrays(
                [chunk for file in parts.files for chunk in _read(file, name).column(name).chunks]
            )
    return pa.table(columns, schema=SCHEMA)


def _records(
    parts: _Parts, groups: NDArray[np.int32], rows: Sequence[NDArray[np.int64]], table: pa.Table
) -> tuple[ClassRecord, ...]:
    """Add up the images of each class of each split.

    Args:
        parts: with what is added up.
        groups: (N,) number of each image's class of a split.
        rows: of the images of each.
        table: `_index_table`.
    """
    sums = np.zeros((len(rows), 6), dtype=np.int64)
    pixels = np.zeros(len(rows), dtype=np.int64)
    most = np.zeros((len(rows), 3), dtype=np.int64)
    least = np.full((len(rows), 3), np.iinfo(np.int64).max)
    ends = np.cumsum(parts.counts)
    for file, count, end in zip(parts.files, parts.counts, ends, strict=True):
        some, group = _read(file, "channels", "height", "width", "sums"), groups[end - count : end]
        shapes = np.stack([some.column(n).to_numpy().astype(np.int64) for n in range(3)], axis=1)
        flat = some.column("sums").combine_chunks().flatten().to_numpy()
        np.add.at(sums, group, flat.reshape(-1, 6))
        np.add.at(pixels, group, shapes[:, 1] * shapes[:, 2])
        np.maximum.at(most, group, shapes)
        np.minimum.at(least, group, shapes)
    lengths = table.column("length").to_numpy()
    digests = np.frombuffer(table.column("digest").chunk(0).buffers()[1], dtype=f"V{DIGEST_BYTES}")
    is_same = (most == least)[:, 1:].all(axis=1)
    return tuple(
        ClassRecord(
            images=len(rows[n]),
            encoded_bytes=int(lengths[rows[n]].sum()),
            digest=hashlib.sha256(digests[rows[n]].tobytes()).hexdigest(),
            channels=max(1, int(most[n, 0])),
            sides=(int(most[n, 1]), int(most[n, 2])) if is_same[n] else None,
            pixels=int(pixels[n]),
            sums=tuple(sums[n, :3].tolist()),
            squares=tuple(sums[n, 3:].tolist()),
        )
        for n in range(len(rows))
    )


def _read(file: Path, *names: str) -> pa.Table:
    """Read columns of a part.

    Raises:
        DataError: it is damaged, which no kill does.
    """
    try:
        with pq.ParquetFile(file) as opened:
            return opened.read(columns=list(names))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {file}, which was just written ({error}): check the disk, or give "
            "another folder with --cache-dir"
        ) from error
