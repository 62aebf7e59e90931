"""Writes a source as class-sorted WebDataset shards: one class of one split per shard.

Every byte follows from the source and the settings, so that shards written again, by however many
writers, are the same.
"""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from idm_ray.data.decode import UnreadableImageError, decode, ignore_pillow_warnings
from idm_ray.data.listing import PROBLEMS_KEPT, EncodedImage, Listing, Source
from idm_ray.data.manifest import SPLITS, FileRecord, SplitName
from idm_ray.data.open_shard import OpenShard, member_bytes
from idm_ray.data.shard_parts import (
    ClassPart,
    ShardSettings,
    finished_parts,
    write_part,
)
from idm_ray.data.shard_target import Plan
from idm_ray.data.splits import check_counts, refuse_left_out, train_rows
from idm_ray.data.tally import Tally, measure
from idm_ray.errors import DataError, StorageError
from idm_ray.storage import Location

_JPEG_QUALITY = 95
_MOST_OPEN = 256
"""Shards that one process writes at once; systems allow it a thousand files or so."""
_TEMPORARY_BYTES = 8_000_000_000
"""Of shards that one process has in temporary files, where a target takes only whole ones."""
_MAGIC = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"RIFF": "webp",
    b"BM": "bmp",
    b"GIF8": "gif",
    b"II*\0": "tif",
    b"MM\0*": "tif",
}


Job = tuple[tuple[SplitName, int], ...]
"""Classes (split, label) that one writer writes in one pass over the source."""


class ShardWriter:
    """Writes jobs; several may work on one set at once, in any processes.

    Args:
        source: of the images.
        settings: of the shards.
        target: folder of the set.
    """

    def __init__(self, source: Source, settings: ShardSettings, target: Location) -> None:
        ignore_pillow_warnings()
        self._source = source
        self._settings = settings
        self._target = target
        self._listing = source.listing()
        if settings.strict:
            refuse_left_out(self._listing.skipped, self._listing.problems)
        train = train_rows(self._listing, settings.limit_per_class)
        self._rows = {"train": train, "test": np.flatnonzero(self._listing.is_test)}
        counts = [self._count(split) for split in SPLITS]
        check_counts(self._listing.class_names, *counts)

    @property
    def listing(self) -> Listing:
        """Of the source."""
        return self._listing

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the labels."""
        return self._listing.class_names

    def plan(self) -> Plan:
        """Say what is to be written."""
        classes = range(len(self.class_names))
        stems = [self._stem(split, label) for split in SPLITS for label in classes]
        return Plan.of(self._source, self._settings, stems)

    def jobs(self, num_writers: int) -> list[Job]:
        """Cut the work for some writers, without what is complete already.

        A source that can be read at random gives a job for each class. Another must be read whole
        for any class, so that each writer gets many classes and goes through it once; more often
        only where a job would have too many shards open at once, or too much of them in temporary
        files.
        """
        done = finished_parts(self._target, len(self.class_names))
        missing = [
            (split, label)
            for split in SPLITS
            for label in range(len(self.class_names))
            if (split, label) not in done
        ]
        if self._source.is_random_access:
            return [(one,) for one in missing]
        num_jobs = min(max(num_writers, -(-len(missing) // self._most_open())), len(missing))
        return [tuple(missing[n::num_jobs]) for n in range(num_jobs)]

    def write(self, job: Job) -> int:
        """Write the shards and parts of a job; returns the number of images in them.

        Raises:
            DataError: an image cannot be read at all, or, if strict, cannot be decoded.
            StorageError: the target cannot be written to.
        """
        try:
            return self._write(job)
        except OSError as error:
            raise StorageError(
                f"cannot write to {self._target} ({error.strerror or error}): mend its disk, or "
                "make room there (for a URI, in TMPDIR), and give the command again to go on"
            ) from error

    def _write(self, job: Job) -> int:
        rows = {key: self._class_rows(*key) for key in job}
        owner = {int(row): key for key, some in rows.items() for row in some}
        with ExitStack() as stack:
            writers = {
                key: stack.enter_context(
                    _ClassWriter(self._target, *key, self._stem(*key), self._settings)
                )
                for key in job
            }
            ordered = np.array(sorted(owner), dtype=np.int64)
            for row, encoded in zip(ordered, self._read(ordered), strict=True):
                writers[owner[int(row)]].add(encoded)
            parts = {key: writer.finish() for key, writer in writers.items()}
        for (split, label), (part, table) in parts.items():
            write_part(self._target, split, label, part, table)
        return sum(part.record.images for part, _ in parts.values())

    def _read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """As the source's, with the errors of its disk told from those of the target's."""
        try:
            yield from self._source.read(rows)
        except OSError as error:
            raise _unreadable(self._source.name, error) from error

    def _most_open(self) -> int:
        """How many shards a job may write at once."""
        if self._target.local is not None:
            return _MOST_OPEN
        return min(max(1, _TEMPORARY_BYTES // self._settings.shard_bytes), _MOST_OPEN)

    def _count(self, split: SplitName) -> NDArray[np.int64]:
        labels = self._listing.labels[self._rows[split]]
        return np.bincount(labels, minlength=len(self.class_names))

    def _class_rows(self, split: SplitName, label: int) -> NDArray[np.int64]:
        rows = self._rows[split]
        chosen: NDArray[np.int64] = rows[self._listing.labels[rows] == label]
        return chosen

    def _stem(self, split: SplitName, label: int) -> str:
        readable = re.sub(r"[^A-Za-z0-9_]+", "-", self.class_names[label]).strip("-")[:40]
        return f"{split}/{label:04d}-{readable}"


class _ClassWriter:
    """Writes one class of one split, shard after shard."""

    def __init__(
        self, target: Location, split: SplitName, label: int, stem: str, settings: ShardSettings
    ) -> None:
        self._target = target
        self._label = label
        self._stem = stem
        self._key = f"{split}-{label:04d}"
        self._settings = settings
        self._tally = Tally()
        self._shard: OpenShard | None = None
        self._written: list[FileRecord] = []
        self._problems: list[str] = []
        self._count = 0

    def __enter__(self) -> "_ClassWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._close_shard(error)

    def add(self, encoded: EncodedImage) -> None:
        """Write an image, or count it as a problem if it cannot be decoded."""
        try:
            content, pixels = self._prepare(encoded)
        except UnreadableImageError as error:
            if self._settings.strict:
                raise
            self._problems.append(str(error))
            return
        shard = self._shard_for(len(content))
        key = f"{self._key}-{self._count:07d}"
        offset = shard.add(key, self._label, _suffix(content), content)
        facts = measure(content, pixels)
        self._tally.add(facts, key=key, shard=len(self._written), offset=offset)
        self._count += 1

    def finish(self) -> tuple[ClassPart, pa.Table]:
        """Close the last shard; returns the part, with shards of this class counted from 0."""
        self._close_shard(None)
        part = ClassPart(
            record=self._tally.record(),
            shards=tuple(self._written),
            skipped=len(self._problems),
            problems=tuple(self._problems[:PROBLEMS_KEPT]),
        )
        return part, self._tally.table()

    def _prepare(self, encoded: EncodedImage) -> tuple[bytes, NDArray[np.uint8]]:
        """The bytes to store, and what they show."""
        try:
            content = encoded.encoded()
        except OSError as error:  # of the disk, not of the image
            raise _unreadable(encoded.name, error) from error
        except DataError:
            raise
        except ValueError as error:
            raise UnreadableImageError(f"cannot read {encoded.name}: {error}") from error
        stored = EncodedImage(encoded.name, lambda: content)
        pixels = decode(stored, None)
        size = self._settings.size
        if size is None or pixels.shape[1:] == (size, size):
            return content, pixels
        resized = _encode(decode(stored, size), "JPEG" if _suffix(content) == "jpg" else "PNG")
        return resized, decode(EncodedImage(encoded.name, lambda: resized), None)

    def _shard_for(self, length: int) -> OpenShard:
        """The open shard, or the next one if this image and its label would not fit."""
        members = member_bytes(length) + member_bytes(len(str(self._label)))
        if self._shard and self._shard.size + members > self._settings.shard_bytes:
            self._close_shard(None)
        if self._shard is None:
            path = f"{self._stem}-{len(self._written):03d}.tar"
            self._shard = OpenShard(self._target, path)
        return self._shard

    def _close_shard(self, error: BaseException | None) -> None:
        shard, self._shard = self._shard, None
        if shard is not None:
            self._written.append(shard.close(error))


def _unreadable(name: str, error: OSError) -> DataError:
    return DataError(
        f"cannot read {name} ({error.strerror or error}), which was listed before: check the disk, "
        "and that nobody changes the source; then give the command again to go on"
    )


def _encode(pixels: NDArray[np.uint8], kind: str) -> bytes:
    """Encode (1, H, W) or (3, H, W) pixels as JPEG or PNG."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    image.save(file, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    return file.getvalue()


def _suffix(content: bytes) -> str:
    """The ending by which readers of WebDataset tell an image's format."""
    for magic, suffix in _MAGIC.items():
        if content.startswith(magic):
            return suffix
    return "img"
