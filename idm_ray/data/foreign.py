"""WebDataset shards that others wrote: classes mixed, labels beside the images, no index.

They are read once from beginning to end to find every image and to check that it can be decoded;
the index stays in the cache folder, and from then on they are used like shards of our own.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

import braceexpand
import numpy as np
from filelock import FileLock

from idm_ray.config import DataConfig
from idm_ray.data.cache import cache_root, refuse_cache
from idm_ray.data.decode import UnreadableImageError, decode, ignore_pillow_warnings
from idm_ray.data.imagenet import TRAIN_TAR
from idm_ray.data.listing import IMAGE_SUFFIXES, EncodedImage
from idm_ray.data.manifest import INDEX_FILE, MANIFEST_FILE, SPLITS, FileRecord, Manifest
from idm_ray.data.shard_index import write_index
from idm_ray.data.shard_set import ShardSet
from idm_ray.data.splits import hold_out
from idm_ray.data.tally import ImageFacts, Tally, measure
from idm_ray.data.tars import members
from idm_ray.errors import DataError
from idm_ray.host import num_cores
from idm_ray.storage import Location

_FORMAT = 1
"""Part of every key: raise it when the same shards would be indexed differently."""
_LABEL_KEYS = ("label", "cls", "class", "target")
_LARGEST_MEMBER = 1 << 28
"""Bytes of an encoded image; what claims more is no image of a data set."""
_PROBLEMS_KEPT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """A labelled image in a shard."""

    key: str
    label: str
    offset: int
    facts: ImageFacts


@dataclass(kw_only=True, slots=True)
class _Sample:
    """Members of one key, as they come."""

    key: str
    suffixes: set[str] = field(default_factory=set)
    image: tuple[int, bytes] | None = None
    label: str | None = None


@dataclass(kw_only=True, slots=True)
class _Scanned:
    """A shard that was read from beginning to end."""

    size: int
    images: list[_Found] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def is_foreign(written: str) -> bool:
    """Whether a source is written as tar files, such as data/{000..099}.tar."""
    path = written.partition("?")[0]
    is_tar = re.search(r"\.(tar|tgz|tar\.\w+)$", path) is not None
    return is_tar and PurePosixPath(path).name != TRAIN_TAR


def open_foreign(config: DataConfig) -> ShardSet:
    """Open tar files of strangers, after indexing them if nobody has yet.

    Nothing is extracted and nothing is unpickled: links, devices and members that are neither
    images nor labels are passed over.

    Raises:
        DataError: A shard is missing, cut short or compressed, or no image can be used.
    """
    shards = [Location.at(path) for path in _expand(config.data)]
    key = _key(shards, config.test_fraction)
    root = cache_root(config.cache_dir) / "index"
    folder = Location.at(root / key)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            if not (folder / MANIFEST_FILE).exists():
                _index(shards, config.test_fraction, folder)
    except OSError as error:
        raise refuse_cache(root, error) from error
    manifest = Manifest.from_json((folder / MANIFEST_FILE).read_bytes(), str(folder))
    return ShardSet(manifest, folder / INDEX_FILE, shards)


def _expand(written: str) -> list[str]:
    path = written.partition("?")[0]
    if not path.endswith(".tar"):
        raise DataError(
            f"expected plain tar files, found {path}: compressed ones cannot be read at random; "
            "unpack them (gunzip), or write shards of the images with idm-ray shards"
        )
    try:
        return list(braceexpand.braceexpand(written))
    except ValueError as error:
        raise DataError(
            f"expected braces in pairs, as in data/{{000..099}}.tar, found {written!r} ({error}): "
            "correct them"
        ) from error


def _key(shards: Sequence[Location], test_fraction: float) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {test_fraction!r}\0".encode())
    listed = {
        folder: {entry.path: entry for entry in folder.files()}
        for folder in dict.fromkeys(shard.parent for shard in shards)
    }
    for shard in shards:
        entry = listed[shard.parent].get(shard.name)
        if entry is None:
            raise DataError(
                f"expected {shard}, one of {len(shards)} shards, found no such file: correct the "
                "numbers in braces, or copy the missing shards"
            )
        digest.update(f"{shard} {entry.size} {entry.mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _index(shards: Sequence[Location], test_fraction: float, folder: Location) -> None:
    """Write index and manifest, the manifest last."""
    ignore_pillow_warnings()
    with ThreadPoolExecutor(num_cores()) as pool:
        scanned = list(pool.map(_scan, shards))
    problems = [problem for one in scanned for problem in one.problems]
    found = [(n, image) for n, one in enumerate(scanned) for image in one.images]
    if not found:
        reason = f" (the first problem: {problems[0]})" if problems else ""
        raise DataError(
            f"expected images ({' '.join(IMAGE_SUFFIXES)}) with labels (cls or json) in "
            f"{shards[0]}, found none{reason}: give shards in WebDataset's form"
        )
    names = _class_names({image.label for _, image in found})
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[image.label] for _, image in found])
    is_test = hold_out(labels, test_fraction)
    tallies = [[Tally() for _ in names] for _ in SPLITS]
    for (shard, image), label, held_out in zip(found, labels, is_test, strict=True):
        tally = tallies[int(held_out)][label]
        tally.add(image.facts, key=image.key, shard=shard, offset=image.offset)
    index = write_index(tally.table() for of_split in tallies for tally in of_split)
    (folder / INDEX_FILE).write_bytes(index)
    train, test = (tuple(tally.record() for tally in of_split) for of_split in tallies)
    manifest = Manifest(
        name=shards[0].parent.name,
        known_as=None,
        class_names=names,
        train=train,
        test=test,
        shards=tuple(
            FileRecord(path=str(shard), size=one.size, sha256="")
            for shard, one in zip(shards, scanned, strict=True)
        ),
        index=FileRecord(
            path=INDEX_FILE, size=len(index), sha256=hashlib.sha256(index).hexdigest()
        ),
        skipped=len(problems),
        problems=tuple(problems[:_PROBLEMS_KEPT]),
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json())


def _class_names(labels: set[str]) -> tuple[str, ...]:
    if all(re.fullmatch(r"\d+", label) for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _scan(shard: Location) -> _Scanned:
    """Read a shard from beginning to end."""
    scanned, seen = _Scanned(size=shard.size()), set[str]()
    with shard.open_stream() as file:
        for sample in _samples(file, shard, scanned):
            _take(sample, shard, seen, scanned)
    return scanned


def _samples(file: BinaryIO, shard: Location, scanned: _Scanned) -> Iterator[_Sample]:
    """Put neighbouring members of one key together."""
    # It brings torch along, which nothing else here needs.
    from webdataset.tariterators import base_plus_ext  # noqa: PLC0415

    sample: _Sample | None = None
    for member in members(file, shard, 0, scanned.size):
        key, suffix = base_plus_ext(member.name)
        if member.isdir() or key is None:
            continue
        if not _is_plain(member):
            scanned.problems.append(f"{member.name} in {shard} is no plain file inside the tar")
            continue
        suffix = suffix.lower()
        if sample is None or key != sample.key or suffix in sample.suffixes:
            if sample is not None:
                yield sample
            sample = _Sample(key=key)
        sample.suffixes.add(suffix)
        if member.size <= _LARGEST_MEMBER:
            _add_member(sample, file, member, suffix)
        elif _is_used(suffix):
            claim = f"{member.name} in {shard} claims {member.size} bytes"
            scanned.problems.append(f"{claim}, more than {_LARGEST_MEMBER}")
    if sample is not None:
        yield sample


def _is_plain(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    is_file = member.isreg() and not member.issparse()
    return is_file and not path.is_absolute() and ".." not in path.parts


def _is_used(suffix: str) -> bool:
    return f".{suffix}".endswith((*IMAGE_SUFFIXES, ".cls", ".json"))


def _add_member(sample: _Sample, file: BinaryIO, member: tarfile.TarInfo, suffix: str) -> None:
    """Keep an image's bytes or a label; anything else is not even read."""
    if not _is_used(suffix):
        return
    file.seek(member.offset_data)
    content = file.read(member.size)
    if suffix.endswith("cls"):
        sample.label = content.decode(errors="replace").strip() or None
    elif suffix.endswith("json"):
        sample.label = sample.label or _label_in(content)
    elif sample.image is None:
        sample.image = (member.offset_data, content)


def _label_in(content: bytes) -> str | None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    labels = [values[key] for key in _LABEL_KEYS if isinstance(values.get(key), int | str)]
    return (str(labels[0]).strip() or None) if labels else None


def _take(sample: _Sample, shard: Location, seen: set[str], scanned: _Scanned) -> None:
    """Check a sample and take it, or say why it is left out."""
    where = f"{sample.key} in {shard}"
    if sample.image is None:
        return
    if sample.label is None:
        scanned.problems.append(f"{where} has no label (cls, or {_LABEL_KEYS} in json)")
    elif sample.key in seen:
        scanned.problems.append(f"{where} is there twice: the first is used")
    else:
        offset, content = sample.image
        try:
            pixels = decode(EncodedImage(where, lambda: content), None)
        except UnreadableImageError as error:
            scanned.problems.append(str(error))
            return
        facts = measure(content, pixels)
        seen.add(sample.key)
        found = _Found(key=sample.key, label=sample.label, offset=offset, facts=facts)
        scanned.images.append(found)
