"""A set of shards while it is written: the parts of finished classes, and the set made of them.

A class's shards come first, then its part (its record and its piece of the index) as the mark that
it is complete. When all parts are there, `assemble` makes index and manifest of them. Writing that
was killed is continued by writing what has no part yet.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from idm_ray.data.listing import Source
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
from idm_ray.data.splits import check_usable
from idm_ray.errors import UserError
from idm_ray.storage import Location

PROBLEMS_KEPT = 5
_PARTS = ".parts"
_PLAN = "plan.json"


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


def begin(source: Source, settings: ShardSettings, target: Location, *, overwrite: bool) -> None:
    """Make a folder ready for a set, or for going on with one that was not finished.

    Args:
        source: of the images.
        settings: of the shards.
        target: folder of the set.
        overwrite: whether to remove another set that is there.

    Raises:
        UserError: there is a set already, or one of another source or other settings was begun; or
            nothing can be written there.
    """
    plan = _plan(source, settings)
    begun = target / _PARTS / _PLAN
    if overwrite:
        _remove_set(target)
    elif (target / MANIFEST_FILE).exists():
        raise UserError(f"expected a new folder, found shards in {target}: add --overwrite")
    elif begun.exists() and begun.read_bytes() != plan:
        raise UserError(
            f"expected the same source and settings as the shards begun in {target}, found others: "
            "add --overwrite to begin again"
        )
    _remove_unfinished_files(target)
    try:
        begun.write_bytes(plan)
    except OSError as error:
        raise UserError(
            f"expected a folder to write to at {target}, found: {error.strerror}; choose another "
            "--out"
        ) from error


def is_unfinished(target: Location) -> bool:
    """Whether a set was begun in a folder and is not there yet."""
    return (target / _PARTS / _PLAN).exists() and not (target / MANIFEST_FILE).exists()


def finished_parts(target: Location, num_classes: int) -> set[tuple[SplitName, int]]:
    """Classes (split, label) whose shards are complete."""
    names = {entry.path for entry in (target / _PARTS).files()}
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
    (target / _PARTS / _part_file(split, label)).write_bytes(file.getvalue())


def assemble(source: Source, class_names: Sequence[str], target: Location) -> Manifest:
    """Make index and manifest of all parts, and remove the parts; the set is then complete.

    Args:
        source: of the images.
        class_names: of the labels.
        target: folder of the set.

    Raises:
        DataError: so many images were left out that the rest is of no use.
    """
    found = {split: list(_read_parts(target, split, len(class_names))) for split in SPLITS}
    parts = [part for split in SPLITS for part, _ in found[split]]
    skipped = sum(part.skipped for part in parts)
    problems = [problem for part in parts for problem in part.problems]
    train, test = (np.array([part.record.images for part, _ in found[s]]) for s in SPLITS)
    check_usable(tuple(class_names), train, test, skipped=skipped, problems=problems)
    index = write_index(_renumbered([pair for split in SPLITS for pair in found[split]]))
    (target / INDEX_FILE).write_bytes(index)
    manifest = Manifest(
        name=source.name,
        known_as=source.known_as,
        class_names=tuple(class_names),
        train=tuple(part.record for part, _ in found["train"]),
        test=tuple(part.record for part, _ in found["test"]),
        shards=tuple(shard for part in parts for shard in part.shards),
        index=FileRecord(
            path=INDEX_FILE, size=len(index), sha256=hashlib.sha256(index).hexdigest()
        ),
        skipped=skipped,
        problems=tuple(problems[:PROBLEMS_KEPT]),
    )
    (target / MANIFEST_FILE).write_bytes(manifest.to_json().encode())
    _remove_parts(target)
    return manifest


def _read_parts(
    target: Location, split: SplitName, num_classes: int
) -> Iterator[tuple[ClassPart, pa.Table]]:
    for label in range(num_classes):
        file = target / _PARTS / _part_file(split, label)
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
    table = pq.read_table(io.BytesIO(content))
    values = json.loads(table.schema.metadata[b"part"])
    part = ClassPart(
        record=record_from(values["record"]),
        shards=tuple(FileRecord(**shard) for shard in values["shards"]),
        skipped=values["skipped"],
        problems=tuple(values["problems"]),
    )
    return part, table.replace_schema_metadata(None)


def _plan(source: Source, settings: ShardSettings) -> bytes:
    digest = hashlib.sha256("\0".join(source.identity()).encode(errors="surrogateescape"))
    plan = {"source": digest.hexdigest(), **dataclasses.asdict(settings)}
    del plan["strict"]
    return json.dumps(plan, indent=1).encode()


def _remove_set(target: Location) -> None:
    """Remove the files of a set, the manifest first: without it there is no set."""
    (target / MANIFEST_FILE).delete()
    _remove_parts(target)
    (target / INDEX_FILE).delete()
    for split in SPLITS:
        _remove_files(target / split, ".tar")


def _remove_parts(target: Location) -> None:
    _remove_files(target / _PARTS, "")
    folder = (target / _PARTS).local
    if folder is not None and folder.is_dir():
        folder.rmdir()


def _remove_files(folder: Location, suffix: str) -> None:
    for entry in folder.files() if folder.is_folder() else ():
        if entry.path.endswith(suffix):
            (folder / entry.path).delete()


def _remove_unfinished_files(target: Location) -> None:
    """Remove what a killed process was writing: on a local disk it has a hidden name."""
    if target.local is not None:
        for folder in (target, target / _PARTS, *(target / split for split in SPLITS)):
            for file in Path(folder.path).glob(".*.tmp"):
                file.unlink()
