"""Files and folders by path or by URI: one way to name, read and write them.

Reading a file that is missing or denied is a `DataError` everywhere. A remote store that goes on
failing is a `StorageError`; nothing is retried on a local disk, whose errors in writing are the
system's `OSError`.
"""

import os
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, Final, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry, LocalDisk
from idm_ray.object_store import ObjectStore

_URI: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?]*)(?P<path>.*)")
_CREDENTIALS: Final = re.compile(r"^[^@]*:[^@]*@")
_DAMAGED_URI: Final = re.compile(r"(?:s3|gs|gcs|abfss?|hdfs|file):/(?!/)")


class RandomReader(Protocol):
    """Reads an open file at any position; threads may share it. A context manager."""

    size: int
    """Of the file, in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises:
            DataError: The file ends before.
            StorageError: A remote store went on failing.
        """

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> "RandomReader": ...

    def __exit__(self, *exc: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Location:
    """A file or a folder that may exist. Cheap to make, can be pickled, and opens nothing."""

    store: LocalDisk | ObjectStore
    path: str
    """Absolute on a local disk; below the bucket otherwise, without slashes around it."""

    @classmethod
    def at(cls, written: str | os.PathLike[str]) -> "Location":
        """Return the location that a user has written as a path or a URI.

        A local path is made absolute and "~" expanded; "file://" is a local path.

        Raises:
            DataError: A URI has gone through `pathlib.Path`, which drops one of its slashes.
        """
        text = os.fspath(written)
        if isinstance(written, PurePath) and _DAMAGED_URI.match(text):
            raise DataError(f"expected a URI as text, got a Path, which makes it {text!r}")
        found = _URI.fullmatch(text)
        if found is None:
            return cls(LocalDisk(), os.path.abspath(os.path.expanduser(text)))
        scheme, authority, rest = found["scheme"].lower(), found["authority"], found["path"]
        path, _, query = rest.partition("?")
        if scheme == "file":
            return cls(LocalDisk(), os.path.abspath(unquote(path)))
        return cls(ObjectStore(f"{scheme}://{authority}", query), unquote(path).strip("/"))

    @property
    def address(self) -> str:
        """What `at` takes to make this location again, credentials included."""
        return self.store.address(self.path)

    def __str__(self) -> str:
        """What a user would write, without passwords: for messages."""
        return self.store.shown(self.path)

    def __truediv__(self, part: str) -> "Location":
        """Return the location of something below this folder.

        Raises:
            DataError: `part` leads out of it; names come from files of strangers.
        """
        pure = PurePosixPath(part)
        if pure.is_absolute() or ".." in pure.parts:
            raise DataError(f"expected a path inside {self}, got {part!r}")
        base = self.path if self.path in ("", "/") else f"{self.path}/"
        return Location(self.store, (base + "/".join(pure.parts)).removesuffix("/") or base)

    @property
    def name(self) -> str:
        """The last part of the path, or of the URI where that has no path; without passwords."""
        if self.path:
            return self.path.rstrip("/").rpartition("/")[2]
        authority = self.address.partition("?")[0].rstrip("/").rpartition("/")[2]
        return _CREDENTIALS.sub("", authority)

    @property
    def parent(self) -> "Location":
        """The folder that holds it; of a root, itself."""
        above = self.path.rpartition("/")[0]
        return Location(self.store, above or ("/" if self.local else ""))

    @property
    def local(self) -> Path | None:
        """The path, where it is on a local disk."""
        return Path(self.path) if isinstance(self.store, LocalDisk) else None

    def exists(self) -> bool:
        """Whether there is anything."""
        return bool(self.store.kind(self.path))

    def is_file(self) -> bool:
        """Whether it is a file with content, no folder or device."""
        return self.store.kind(self.path) == "file"

    def is_folder(self) -> bool:
        """Whether it is a folder; in an object store, whether anything is below it."""
        return self.store.kind(self.path) == "folder"

    def size(self) -> int:
        """Return the size of a file in bytes, by one request."""
        return self.store.size(self.path)

    def entry(self) -> FileEntry | None:
        """Return name, size and time of a file, by one request; None where there is no file."""
        return self.store.entry(self.path)

    def files(self) -> list[FileEntry]:
        """List the files below a folder, sorted by path; hidden files and folders are left out."""
        return self.store.files(self.path)

    def read_bytes(self) -> bytes:
        """Return all that a file holds."""
        with self.open_stream() as file:
            return file.read()

    def open_random(self, size: int | None = None) -> RandomReader:
        """Open a file to read at any position.

        Args:
            size: What the file should have, in bytes, where that is known.

        Raises:
            DataError: It is missing or denied, or has another size.
        """
        reader = self.store.open_random(self.path)
        if size is not None and reader.size != size:
            reader.close()
            raise DataError(
                f"expected {size} bytes in {self}, found {reader.size}: it was cut short or "
                "changed; copy or write it again"
            )
        return reader

    def open_stream(self) -> BinaryIO:
        """Open a file to read from its start; seeking works, too."""
        return self.store.open_stream(self.path)

    def arrow(self) -> tuple[pa.fs.FileSystem, str]:
        """Return pyarrow's file system that it is in and its path there, for other libraries."""
        if isinstance(self.store, ObjectStore):
            return self.store.arrow(self.path)
        return pa.fs.LocalFileSystem(), self.path

    def atomic_write(self) -> AbstractContextManager[BinaryIO]:
        """Open a file that is seen only when the block has ended without an exception.

        The file can be written and read and seeks. Until the end of the block an older one stays
        as it is. Missing folders are made. For an object store the content is gathered in a local
        temporary file first (see TMPDIR).
        """
        return self.store.atomic_write(self.path)

    def write_bytes(self, content: bytes) -> None:
        """Write a file, atomically."""
        with self.atomic_write() as file:
            file.write(content)

    def write_text(self, content: str) -> None:
        """Write a text as UTF-8, atomically."""
        self.write_bytes(content.encode())

    def delete(self) -> None:
        """Remove a file; no error if there is none."""
        self.store.delete(self.path)


def shown(written: str | os.PathLike[str]) -> str:
    """Return what a user has written for a message: paths as they are, URIs without passwords."""
    place = Location.at(written)
    return str(place) if place.local is None else os.fspath(written)
