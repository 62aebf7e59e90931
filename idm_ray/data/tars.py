"""Where the images of tar files lie, so that they are read by offset and nothing is extracted."""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.listing import IMAGE_SUFFIXES, EncodedImage
from idm_ray.errors import DataError, IdmRayError
from idm_ray.storage import Location

_LONGEST_NAME = 255
"""Bytes; all names of an index are kept at the length of the longest."""


@dataclass(frozen=True, slots=True, eq=False)
class TarImages:
    """The images of one tar file, or of one tar inside of another."""

    names: NDArray[np.bytes_]
    """(N,), UTF-8."""
    offsets: NDArray[np.int64]
    """(N,) bytes from the beginning of the outer file to an image's first byte."""
    sizes: NDArray[np.int64]
    """(N,) bytes."""
    num_ignored: int
    """Members that are no images: links, devices, names that lead elsewhere, other files."""

    def image(self, path: Path, row: int) -> EncodedImage:
        """Return the image at `row`, of the outer file `path`."""
        name = bytes(self.names[row]).decode("utf-8", "replace")
        start, size = int(self.offsets[row]), int(self.sizes[row])
        return EncodedImage(f"{path.name}: {name}", partial(_read_at, path, start, size))


def join(parts: Sequence[TarImages]) -> TarImages:
    """Put the images of several tars one after another."""
    return TarImages(
        np.concatenate([np.zeros(0, dtype="S1"), *(part.names for part in parts)]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(part.offsets for part in parts)]),
        np.concatenate([np.zeros(0, dtype=np.int64), *(part.sizes for part in parts)]),
        sum(part.num_ignored for part in parts),
    )


def plain_name(member: tarfile.TarInfo) -> str | None:
    """The name of a plain file at the top of a tar; None for all else.

    Links, devices, sparse files and names that lead to another folder are never followed.
    """
    name = member.name.removeprefix("./")
    if not member.isreg() or member.issparse() or "/" in name or name == "..":
        return None
    return name


def images_within(file: BinaryIO, path: Path, start: int, end: int, *, what: str = "") -> TarImages:
    """Index the images of the tar that lies at start..end-1 of a file.

    Args:
        file: The file, opened.
        path: Where it is, for messages.
        start: Offset of the tar's first header.
        end: Offset behind its last byte.
        what: The tar's name in the file, for messages; "" if it is the file.

    Raises:
        DataError: The tar is truncated or damaged.
    """
    names: list[bytes] = []
    places: list[tuple[int, int]] = []
    num_ignored = 0
    for member in members(file, path, start, end, what=what):
        name = plain_name(member)
        encoded = b"" if name is None else name.encode("utf-8", "surrogateescape")
        if name and name.lower().endswith(IMAGE_SUFFIXES) and len(encoded) <= _LONGEST_NAME:
            names.append(encoded)
            places.append((member.offset_data, member.size))
        elif not member.isdir():
            num_ignored += 1
    offsets, sizes = np.array(places, dtype=np.int64).reshape(-1, 2).T
    return TarImages(np.array(names, dtype=np.bytes_), offsets, sizes, num_ignored)


def members(
    file: BinaryIO, path: Path | Location, start: int, end: int, *, what: str = ""
) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar from their headers; one is in memory at a time.

    Arguments and errors are those of `images_within`. Between two members the file may be read
    elsewhere.
    """
    if start == end:
        return
    last, position, reason = "none", start, ""
    try:
        file.seek(start)
        with tarfile.TarFile(fileobj=file) as tar:
            while position < end and (member := tar.next()) is not None:
                # A sparse file claims the size that it would have outside.
                stop = tar.offset if member.issparse() else member.offset_data + member.size
                if tar.offset <= position or stop > end:
                    reason = f"{member.name!r} does not fit"
                    break
                yield member
                last, position = repr(member.name), tar.offset
                tar.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps all of them
        if not reason and not _is_end(file, position, end):
            reason = "no header and no end where one must be"
    except (MemoryError, IdmRayError):
        raise
    except Exception as error:  # tarfile raises more than its own errors on damaged headers
        reason = " ".join(str(error).split()) or type(error).__name__
    if reason:
        place = f"{what} in {path}" if what else path
        raise DataError(
            f"expected a whole tar, found {place} truncated or damaged ({reason}); "
            f"its last whole member is {last}: copy or download it again"
        )


def _is_end(file: BinaryIO, position: int, end: int) -> bool:
    """Whether a tar ends at `position`: with a block of zeros, or, inside of another, at its end.

    tarfile takes a damaged header for the end.
    """
    file.seek(position)
    block = file.read(tarfile.BLOCKSIZE)
    return block == bytes(tarfile.BLOCKSIZE) or (position == end and bool(block))


def _read_at(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        content = file.read(size)
    if len(content) < size:
        raise DataError(f"{path.name} has become shorter: copy or download it again")
    return content
