"""Reads one shard of strangers from beginning to end: its labelled images, and what is wrong.

Nothing is extracted and nothing is unpickled: links, devices and members that are neither images
nor labels are passed over.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from idm_ray.data.decode import UnreadableImageError, decode
from idm_ray.data.listing import IMAGE_SUFFIXES, PROBLEMS_KEPT, EncodedImage
from idm_ray.data.shard_index import DIGEST_BYTES
from idm_ray.data.tally import measure
from idm_ray.data.tars import members
from idm_ray.errors import DataError
from idm_ray.storage import Location

IMAGES = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("digest", pa.binary(DIGEST_BYTES)),
        ("channels", pa.int8()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("sums", pa.list_(pa.int64(), 6)),
    ]
)
"""What is known of an image; `sums` are those of `ImageFacts`, in one row."""
_LABEL_KEYS = ("label", "cls", "class", "target")
_LARGEST_MEMBER = 1 << 28
"""Bytes of an encoded image; what claims more is no image of a data set."""
_LONGEST_LABEL = 255
_BLOCK = 4096
"""Images that are kept as objects of Python, which take ten times the memory of columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanned:
    """A shard that was read from beginning to end.

    Attributes:
        images: of `IMAGES`, in the order in which they lie.
        skipped: what was left out because it cannot be used.
        problems: the first few of them, each with its reason.
    """

    images: pa.Table
    skipped: int
    problems: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Sample:
    """Members of one key, as they come."""

    key: str
    suffixes: set[str] = field(default_factory=set)
    image: tuple[int, bytes] | None = None
    has_plain_image: bool = False
    label: str | None = None


class _Findings:
    """Gathers the images of a shard in columns, and counts its problems."""

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []
        self._blocks: list[pa.Table] = []
        self.skipped = 0
        self.problems: list[str] = []

    def leave_out(self, problem: str) -> None:
        """Count a problem; names come from strangers and must stay on their line."""
        self.skipped += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append("".join(c if c.isprintable() else ascii(c)[1:-1] for c in problem))

    def add(self, sample: _Sample, label: str, where: str) -> None:
        """Take in a sample's image if it can be decoded."""
        assert sample.image is not None, "the caller has looked"
        offset, content = sample.image
        try:
            pixels = decode(EncodedImage(where, lambda: content), None)
        except UnreadableImageError as error:
            self.leave_out(str(error))
            return
        facts = measure(content, pixels)
        place = (sample.key, label, offset, facts.length, facts.digest)
        self._rows.append((*place, facts.channels, *facts.sides, facts.sums.ravel().tolist()))
        if len(self._rows) == _BLOCK:
            self._pack()

    def images(self) -> pa.Table:
        """Return the rows of all images."""
        self._pack()
        return pa.concat_tables(self._blocks)

    def _pack(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(IMAGES)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, IMAGES, strict=True)]
        self._blocks.append(pa.Table.from_arrays(arrays, schema=IMAGES))
        self._rows.clear()


def scan(shard: Location, size: int) -> Scanned:
    """Read a shard from beginning to end.

    Args:
        shard: a plain tar file.
        size: of it, in bytes.

    Raises:
        DataError: it is cut short, damaged, compressed or gone, or the disk fails.
    """
    findings = _Findings()
    try:
        with shard.open_stream() as file:
            for sample in _samples(file, shard, size, findings):
                _take(sample, shard, findings)
    except OSError as error:
        raise DataError(
            f"cannot read {shard} ({error.strerror or error}): check its disk, or copy it again"
        ) from error
    images = _without_repeats(findings.images(), shard, findings)
    return Scanned(images=images, skipped=findings.skipped, problems=tuple(findings.problems))


def _samples(file: BinaryIO, shard: Location, size: int, findings: _Findings) -> Iterator[_Sample]:
    """Put neighbouring members of one key together."""
    # It brings torch along, which nothing else here needs.
    from webdataset.tariterators import base_plus_ext  # noqa: PLC0415

    sample: _Sample | None = None
    for member in members(file, shard, 0, size):
        key, suffix = base_plus_ext(member.name)
        if member.isdir() or key is None:
            continue
        if problem := _problem(member):
            findings.leave_out(f"{member.name} in {shard} {problem}")
            continue
        suffix = suffix.lower()
        if sample is None or key != sample.key or suffix in sample.suffixes:
            if sample is not None:
                yield sample
            sample = _Sample(key=key)
        sample.suffixes.add(suffix)
        if not _is_used(suffix):
            continue
        if member.size <= _LARGEST_MEMBER:
            _add_member(sample, file, member, suffix)
        else:
            claim = f"{member.name} in {shard} claims {member.size} bytes"
            findings.leave_out(f"{claim}, more than {_LARGEST_MEMBER}")
    if sample is not None:
        yield sample


def _problem(member: tarfile.TarInfo) -> str:
    """Why a member is not even looked at; "" if it is."""
    path = PurePosixPath(member.name)
    if not member.isreg() or member.issparse() or path.is_absolute() or ".." in path.parts:
        return "is no plain file inside the tar"
    try:
        member.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return ""


def _is_used(suffix: str) -> bool:
    return f".{suffix}".endswith((*IMAGE_SUFFIXES, ".cls", ".json"))


def _add_member(sample: _Sample, file: BinaryIO, member: tarfile.TarInfo, suffix: str) -> None:
    """Keep an image's bytes or a label; an image that is not needed is not even read.

    A sample's image is "jpg" rather than "depth.png", and otherwise the first.
    """
    is_label, is_plain = suffix.endswith(("cls", "json")), "." not in suffix
    if not is_label and sample.image and (sample.has_plain_image or not is_plain):
        return
    file.seek(member.offset_data)
    content = file.read(member.size)
    if suffix.endswith("cls"):
        sample.label = content.decode(errors="replace").strip() or None
    elif is_label:
        sample.label = sample.label or _label_in(content)
    else:
        sample.image, sample.has_plain_image = (member.offset_data, content), is_plain


def _label_in(content: bytes) -> str | None:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    labels = [values[key] for key in _LABEL_KEYS if isinstance(values.get(key), int | str)]
    return (str(labels[0]).strip() or None) if labels else None


def _take(sample: _Sample, shard: Location, findings: _Findings) -> None:
    """Check a sample and take it, or say why it is left out."""
    where = f"{sample.key} in {shard}"
    if sample.image is None:
        return
    if sample.label is None:
        findings.leave_out(f"{where} has no label (cls, or {_LABEL_KEYS} in json)")
    elif len(sample.label) > _LONGEST_LABEL or not sample.label.isprintable():
        findings.leave_out(
            f"{where} has a label of more than one line or of more than {_LONGEST_LABEL} letters"
        )
    else:
        findings.add(sample, sample.label, where)


def _without_repeats(images: pa.Table, shard: Location, findings: _Findings) -> pa.Table:
    """Leave out images whose key came before."""
    keys = images.column("key").combine_chunks()
    codes = keys.dictionary_encode().indices.to_numpy()  # numbered as they first come
    before = np.maximum.accumulate(np.concatenate([[-1], codes]))[:-1]
    for row in np.flatnonzero(codes <= before).tolist():
        findings.leave_out(f"{keys[row].as_py()} in {shard} is there twice: the first is used")
    return images.filter(pa.array(codes > before))
