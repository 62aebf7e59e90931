"""What a set of shards says of itself: enough to plan a run before any image is read."""

import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from idm_ray.errors import DataError

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, ...] = typing.get_args(SplitName)
MANIFEST_FILE = "manifest.json"
INDEX_FILE = "index.parquet"
_FORMAT = "idm_ray shards 1"
_MOST_PIXELS = 1 << 28
"""Of an image; decoding refuses far fewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRecord:
    """One class of one split.

    Attributes:
        images: how many there are.
        encoded_bytes: of all of them, as they are stored.
        digest: SHA-256 over the digests of its images in their order, in hexadecimal.
        channels: 1 if every image is grey, else 3.
        sides: height and width if all images share them.
        pixels: of all images together.
        sums: of 8-bit values, red, green and blue; grey counts as all three.
        squares: as `sums`, of squared values.
    """

    images: int
    encoded_bytes: int
    digest: str
    channels: int
    sides: tuple[int, int] | None
    pixels: int
    sums: tuple[int, int, int]
    squares: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRecord:
    """A file of the set: its path below the set's folder, size in bytes, and SHA-256.

    A shard of others has its own path, and no SHA-256: its images have one each.
    """

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: bytes) -> "FileRecord":
        """Describe a file by what it holds."""
        return cls(path=path, size=len(content), sha256=hashlib.sha256(content).hexdigest())


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The content of manifest.json.

    Attributes:
        name: of the source that the shards were made of.
        known_as: a key of `known.KNOWN` if the source was one by construction.
        class_names: of labels 0, 1, 2, ...
        train: one record for each class.
        test: as `train`.
        shards: all of them; the index counts them from 0.
        index: the Parquet file that says where each image lies.
        skipped: images that were left out because they cannot be used.
        problems: the first few of them, each with its reason.
    """

    name: str
    known_as: str | None
    class_names: tuple[str, ...]
    train: tuple[ClassRecord, ...]
    test: tuple[ClassRecord, ...]
    shards: tuple[FileRecord, ...]
    index: FileRecord
    skipped: int
    problems: tuple[str, ...]

    def split(self, name: SplitName) -> tuple[ClassRecord, ...]:
        """Return the records of one split."""
        return self.train if name == "train" else self.test

    def to_json(self) -> str:
        """Write it down, with a checksum of its own."""
        content = {"format": _FORMAT, **dataclasses.asdict(self)}
        return json.dumps({**content, "sha256": _checksum(content)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Manifest":
        """Read what `to_json` wrote.

        Args:
            text: the file's content.
            where: it lies, for messages.

        Raises:
            DataError: it is damaged, changed by hand, of another version, or says what cannot be.
        """
        try:
            content = json.loads(text)
            found = content.pop("sha256")
            if content.get("format") != _FORMAT:
                raise DataError(
                    f"expected shards of format {_FORMAT!r} in {where}, found "
                    f"{content.get('format')!r}: write them again with idm-ray shards"
                )
            if found != _checksum(content):
                raise ValueError("its checksum differs")
            manifest = _from_values(content)
            _check_types(manifest, Manifest, "manifest")
            _check_numbers(manifest)
            return manifest
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"expected the manifest of a set of shards, found {where} damaged ({error}): "
                "copy it again, or write the shards again with idm-ray shards"
            ) from error


def image_shape(records: Sequence[ClassRecord]) -> tuple[int, int, int] | None:
    """Return (C, H, W) of all images of some classes, None if their sizes differ."""
    filled = [record for record in records if record.images]
    sides = {record.sides for record in filled}
    if len(sides) != 1 or (side := sides.pop()) is None:
        return None
    return (max(record.channels for record in filled), *side)


def statistics(
    records: Sequence[ClassRecord], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and deviation per channel, of pixels in [0, 1], as `arrays.statistics` does."""
    pixels = sum(record.pixels for record in records)
    sums = [sum(record.sums[channel] for record in records) for channel in range(channels)]
    squares = [sum(record.squares[channel] for record in records) for channel in range(channels)]
    # Whole numbers up to here: the variance of an almost constant channel is a small difference.
    mean = [s / (255 * pixels) for s in sums]
    variance = [
        (pixels * q - s * s) / (255 * pixels) ** 2 for s, q in zip(sums, squares, strict=True)
    ]
    std = np.round(np.sqrt(variance), 4)
    return tuple(np.round(mean, 4).tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def fingerprint(manifest: Manifest, labels: Sequence[int], *settings: object) -> str:
    """Compute a SHA-256, in hexadecimal, of the images of some classes and of how they are used.

    Args:
        manifest: of the shards; how images are spread over shards does not count.
        labels: of the classes, in the run's order.
        settings: whatever else decides the pixels; their text counts.
    """
    content = [list(map(str, settings))]
    for label in labels:
        digests = [manifest.split(split)[label].digest for split in SPLITS]
        content.append([manifest.class_names[label], *digests])
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _from_values(content: Mapping[str, Any]) -> Manifest:
    values = {key: value for key, value in content.items() if key != "format"}
    for split in SPLITS:
        values[split] = tuple(record_from(record) for record in values[split])
    values["shards"] = tuple(FileRecord(**shard) for shard in values["shards"])
    values["index"] = FileRecord(**values["index"])
    for name in ("class_names", "problems"):
        values[name] = tuple(values[name])
    if not len(values["train"]) == len(values["test"]) == len(values["class_names"]):
        raise ValueError("its classes do not fit")
    return Manifest(**values)


def record_from(values: Mapping[str, Any]) -> ClassRecord:
    """Rebuild a record that went through JSON."""
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return ClassRecord(**{**values, **lists})


def _check_types(value: object, hint: Any, where: str) -> None:
    """Refuse a value that is not what the annotations of the records say; whole numbers only.

    Raises:
        ValueError: it names the place.
    """
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        for name, of_field in _hints(hint).items():
            _check_types(getattr(value, name), of_field, f"{where}.{name}")
    elif typing.get_origin(hint) is tuple:
        _check_items(value, typing.get_args(hint), where)
    elif isinstance(hint, types.UnionType):
        if value is not None:
            _check_types(value, typing.get_args(hint)[0], where)
    elif type(value) is not hint:  # True is an int, too
        raise ValueError(f"{where} is {str(value)[:20]!r}, expected {hint.__name__}")


def _check_items(value: object, hints: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, tuple):
        raise ValueError(f"{where} is no list")
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(value)
    if len(hints) != len(value):
        raise ValueError(f"{where} has {len(value)} values, not {len(hints)}")
    for number, (one, hint) in enumerate(zip(value, hints, strict=True)):
        _check_types(one, hint, f"{where}[{number}]")


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _check_numbers(manifest: Manifest) -> None:
    """Refuse numbers that no images have; the shards themselves bound them all.

    Raises:
        ValueError: it names the place.
    """
    records = [record for split in SPLITS for record in manifest.split(split)]
    for split in SPLITS:
        for label, record in enumerate(manifest.split(split)):
            if not _is_possible(record):
                raise ValueError(f"manifest.{split}[{label}] has numbers that no images have")
    sizes = [shard.size for shard in (*manifest.shards, manifest.index)]
    if min(*sizes, manifest.skipped) < 0:
        raise ValueError("a size or a count is negative")
    if sum(record.encoded_bytes for record in records) > sum(sizes):
        raise ValueError("its images are larger than its shards")


def _is_possible(record: ClassRecord) -> bool:
    images, pixels = record.images, record.pixels
    if images == 0:
        return pixels == record.encoded_bytes == 0
    if record.sides is not None:
        height, width = record.sides
        if min(height, width) < 1 or images * height * width != pixels:
            return False
    sums = zip(record.sums, record.squares, strict=True)
    return (
        0 < images <= record.encoded_bytes
        and images <= pixels <= images * _MOST_PIXELS
        and record.channels in (1, 3)
        # No mean beyond white, and no variance below zero.
        and all(0 <= s <= q <= 255 * s and s * s <= pixels * q for s, q in sums)
        and max(record.squares) <= 255**2 * pixels
    )
