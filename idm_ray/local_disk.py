"""Files and folders on a local disk: listing, reading at random, writing atomically.

What is true of files behind a URI as well is in `storage`, which both are used through.
"""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from idm_ray.errors import DataError

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
"""What `atomic_write` calls a file while it is written."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file below a root."""

    path: str
    """Relative to the root, with forward slashes."""
    size: int
    mtime_ns: int

    def identity(self) -> str:
        """Return a line that changes when the file does."""
        return f"{self.path} {self.size} {self.mtime_ns}"


class LocalReader:
    """Reads an open file at any position; threads may share it."""

    def __init__(self, path: str) -> None:
        self._path = path
        with _clear_errors(path):
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 -- closed by `close`
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises:
            DataError: The file ends before.
        """
        parts, start, end = [], offset, offset + length
        while start < end:
            parts.append(os.pread(self._file.fileno(), end - start, start))
            if not parts[-1]:
                raise DataError(too_short(self._path, end, start))
            start += len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "LocalReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class LocalDisk:
    """The files of this machine; paths are absolute."""

    def address(self, path: str) -> str:
        """Return what a user would write."""
        return path

    shown = address

    def kind(self, path: str) -> str:
        """Return "file", "folder", "other" (a device or a pipe), or "" where there is nothing."""
        try:
            mode = os.stat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if stat.S_ISREG(mode):
            return "file"
        return "folder" if stat.S_ISDIR(mode) else "other"

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        with _clear_errors(path):
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"expected a file at {path}, found a folder or a device")
        return status.st_size

    def entry(self, path: str) -> FileEntry | None:
        """Return name, size and time of a file; None where there is no file."""
        with _clear_errors(path):
            if self.kind(path) != "file":
                return None
            status = os.stat(path)
        return FileEntry(os.path.basename(path), status.st_size, status.st_mtime_ns)

    def files(self, path: str) -> list[FileEntry]:
        """List the files below a folder."""
        with _clear_errors(path):
            return list_files(Path(path))

    def open_random(self, path: str) -> LocalReader:
        """Open a file to read at any position."""
        return LocalReader(path)

    def open_stream(self, path: str) -> BinaryIO:
        """Open a file to read from its start."""
        with _clear_errors(path):
            return open(path, "rb")

    @contextlib.contextmanager
    def atomic_write(self, path: str) -> Iterator[BinaryIO]:
        """Open a file that takes its name when the block has ended well; folders are made."""
        _make_folder(Path(path).parent)
        with atomic_write(path) as file:
            yield file

    def delete(self, path: str) -> None:
        """Remove a file if it is there."""
        Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file that takes its name only when the block ends without an exception.

    Args:
        path: The file to create or replace; its folder must exist.

    Yields:
        A binary file, open for writing and seeking, under a temporary name in the same folder
        (a rename is atomic only within one file system).

    Raises:
        OSError: The folder is missing, not writable or full. An older file is then untouched.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # of a full disk, people want to know which
        raise
    _sync_folder(target.parent)


def abandoned_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """What processes that were killed in an `atomic_write` have left in a folder.

    Files that are being written now cannot be told from them.

    Yields:
        Each file, and the name that it was to take.
    """
    for file in folder.glob(".*.tmp"):
        if found := _TEMPORARY.fullmatch(file.name):
            yield file, found[1]


def list_files(root: Path) -> list[FileEntry]:
    """List the files below a folder, sorted by path; hidden files and folders are left out.

    Links are followed: subsets of large data sets are often made of them.

    Raises:
        OSError: A folder cannot be read.
    """
    return sorted(_walk(str(root), "", frozenset()), key=lambda entry: entry.path)


def read_listed(root: Path, entry: FileEntry) -> bytes:
    """Return the bytes of a file as it was listed: none of an empty one, or of a link to nowhere.

    Raises:
        OSError: It is gone since, or cannot be read.
    """
    return (root / entry.path).read_bytes() if entry.size else b""


def too_short(shown: str, expected: int, found: int) -> str:
    """The message for a file that ends before what is read from it."""
    return (
        f"expected at least {expected} bytes in {shown}, found only {found}: it was cut short or "
        "changed; copy or write it again"
    )


def _walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[FileEntry]:
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link to a folder that contains it
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = prefix + entry.name
            if entry.is_dir():
                yield from _walk(entry.path, path + "/", above | {here})
            else:
                yield _file_entry(entry, path)


def _file_entry(entry: os.DirEntry[str], path: str) -> FileEntry:
    try:
        status = entry.stat()
    except OSError:  # a link to nowhere: listed, so that it is counted as an unreadable image
        return FileEntry(path, 0, 0)
    return FileEntry(path, status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def _clear_errors(path: str) -> Iterator[None]:
    """Turns the errors of wrong paths into a DataError that names the path."""
    try:
        yield
    except (
        FileNotFoundError,
        IsADirectoryError,
        NotADirectoryError,
        PermissionError,
    ) as error:
        raise DataError(
            f"cannot read {error.filename or path} ({error.strerror}): check the path and its "
            "permissions"
        ) from error


def _make_folder(folder: Path) -> None:
    """Makes a folder and its parents where they are missing; they survive a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
