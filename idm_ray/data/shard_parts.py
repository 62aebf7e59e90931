"""A set of shards while it is written: the parts of finished classes, and the set made of them.

A class's shards come first, then its part (its record and its piece of the index) as the mark that
it is complete. When all parts are there, `assemble` makes index and manifest of them. Writing that
was killed is continued by writing what has no part yet.
"""

import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from idm_ray.data.listing import PROBLEMS_KEPT, Listing, Source
from idm_ray.data.manifest import (
    INDEX_FILE,
    MANIFEST_FILE,
    SPLITS,
    ClassRecord,
    FileRecord,
    Manifest,
    SplitName,
    record_from,
)
from idm_ray.data.shard_index import SCHEMA, write_index
from idm_ray.data.splits import check_usable, refuse_left_out
from idm_ray.storage import Location

PARTS = ".parts"
"""A folder beside the shards, for as long as they are written."""
PLAN = "plan.json"
LOCK = "lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSettings:
    """What decides the bytes, beside the source.

    Attributes:
        size: as `decode` takes it; None keeps the encoded bytes as they are.
        shard_bytes: a shard ends before it would grow beyond this.
        limit_per_class: as `splits.train_rows` takes it.
        strict: refuse an image that cannot be used instead of leaving it out; decides no byte.
    """

    size: int | None
    shard_bytes: int
    limit_per_class: int | None
    strict: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassPart:
    """What is known of one class of one split once its shards are written."""

    record: ClassRecord
    shards: tuple[FileRecord, ...]
    skipped: int
    problems: tuple[str, ...]


def is_unfinished(target: Location) -> bool:
    """Whether a set was begun in a folder and is not there yet."""
    return (target / PARTS / PLAN).exists() and not (target / MANIFEST_FILE).exists()


def finished_parts(target: Location, num_classes: int) -> set[tuple[SplitName, int]]:
    """Classes (split, label) whose shards are complete."""
    names = {entry.path for entry in (target / PARTS).files()}
    return {(s, n) for s in SPLITS for n in range(num_classes) if _part_file(s, n) in names}


def write_part(
    target: Location, split: SplitName, label: int, part: ClassPart, table: pa.Table
) -> None:
    """Mark a class as complete.

    Args:
        target: folder of the set.
        split: of the class.
        label: of the class.
        part: what is known of it, with its shards counted from 0.
        table: its rows of the index, counting likewise.
    """
    file = io.BytesIO()
    content = json.dumps(dataclasses.asdict(part))
    pq.write_table(table.replace_schema_metadata({"part": content}), file)
    (target / PARTS / _part_file(split, label)).write_bytes(file.getvalue())


def assemble(
    source: Source, listing: Listing, settings: ShardSettings, target: Location
) -> Manifest:
    """Make index and manifest of all parts, and remove the parts; the set is then complete.

    Args:
        source: of the images.
        listing: of the source.
        settings: of the shards.
        target: folder of the set.

    Raises:
        DataError: so many images were left out that the rest is of no use, or any if strict.
    """
    class_names = listing.class_names
    found = {split: list(_read_parts(target, split, len(class_names))) for split in SPLITS}
    parts = [part for split in SPLITS for part, _ in found[split]]
    skipped = listing.skipped + sum(part.skipped for part in parts)
    problems = [*listing.problems, *(problem for part in parts for problem in part.problems)]
    if settings.strict:
        refuse_left_out(skipped, problems)
    train, test = (np.array([part.record.images for part, _ in found[s]]) for s in SPLITS)
    check_usable(class_names, train, test, skipped=skipped, problems=problems)
    index = write_index(_renumbered([pair for split in SPLITS for pair in found[split]]))
    (target / INDEX_FILE).write_bytes(index)
    manifest = Manifest(
        name=source.name,
        known_as=source.known_as,
        class_names=class_names,
        train=tuple(part.record for part, _ in found["train"]),
        test=tuple(part.record for part, _ in found["test"]),
        shards=tuple(shard for part in parts for shard in part.shards),
        index=FileRecord.of(INDEX_FILE, index),
        skipped=skipped,
        problems=tuple(problems[:PROBLEMS_KEPT]),
    )
    (target / MANIFEST_FILE).write_bytes(manifest.to_json().encode())
    remove_parts(target)
    return manifest


def _read_parts(
    target: Location, split: SplitName, num_classes: int
) -> Iterator[tuple[ClassPart, pa.Table]]:
    for label in range(num_classes):
        file = target / PARTS / _part_file(split, label)
        yield _unpack_part(file.read_bytes())


def _renumbered(parts: Sequence[tuple[ClassPart, pa.Table]]) -> Iterator[pa.Table]:
    """The tables, with shards numbered over all parts."""
    first = 0
    for part, table in parts:
        column = table.schema.get_field_index("shard")
        numbers = pa.array(table.column("shard").to_numpy() + first, pa.int32())
        yield table.set_column(column, SCHEMA.field("shard"), numbers)
        first += len(part.shards)


def _part_file(split: SplitName, label: int) -> str:
    return f"{split}-{label:04d}.parquet"


def _unpack_part(content: bytes) -> tuple[ClassPart, pa.Table]:
    # Arrow's threads could hold the content for longer than this takes: see `results.reading`.
    table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
    values = json.loads(table.schema.metadata[b"part"])
    part = ClassPart(
        record=record_from(values["record"]),
        shards=tuple(FileRecord(**shard) for shard in values["shards"]),
        skipped=values["skipped"],
        problems=tuple(values["problems"]),
    )
    return part, table.replace_schema_metadata(None)


def remove_parts(target: Location) -> None:
    """Remove parts and plan; the plan last, which says what else is there."""
    folder = target / PARTS
    names = [entry.path for entry in folder.files()] if folder.is_folder() else []
    for name in sorted(set(names) - {LOCK, PLAN}):
        (folder / name).delete()
    (folder / PLAN).delete()
