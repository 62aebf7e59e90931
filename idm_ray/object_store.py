"""Files behind a URI, through pyarrow's file systems: with retries, and with clear errors.

What is true of local files as well is in `storage`, which both are used through.
"""

import concurrent.futures
import contextlib
import io
import mmap
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Final, TypeVar, cast

import pyarrow as pa
import pyarrow.fs
import tenacity

from idm_ray import interruption
from idm_ray.errors import DataError, IdmRayError, StorageError
from idm_ray.local_disk import FileEntry, too_short
from idm_ray.object_filesystem import Patience, kept_private, open_filesystem
from idm_ray.passwords import hide_passwords

T = TypeVar("T")

# Of one request: small enough that a failed one costs little, large enough for full speed.
READ_BLOCK_BYTES: Final = 8 << 20
# As much of an upload is in memory.
_WRITE_BLOCK_BYTES: Final = 64 << 20


PATIENCE = Patience()

_MAY_PASS = re.compile(
    r"HTTP status (?:5\d\d|408|429)|NETWORK_CONNECTION|INTERNAL_FAILURE|UNAVAILABLE|SLOW_DOWN|"
    r"THROTTLING|REQUEST_TIMEOUT|DEADLINE_EXCEEDED"
)
_MISSING = re.compile(r"NO_SUCH_(?:BUCKET|KEY)|RESOURCE_NOT_FOUND|HTTP status 404")
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE|EXPIRED|"
    r"MISSING_AUTHENTICATION|UNRECOGNIZED_CLIENT|HTTP status 40[13]|PERMISSION_DENIED|"
    r"UNAUTHENTICATED"
)
_ELSEWHERE = re.compile(r"HTTP status 30\d|PERMANENT_REDIRECT|AUTHORIZATION_HEADER_MALFORMED")


@dataclass(frozen=True, slots=True, repr=False)
class ObjectStore:
    """A bucket or its like, opened on first use in each process.

    Attributes:
        root: scheme and authority, such as "s3://bucket"; may hold credentials.
        query: options of the file system, such as "region=eu-west-1", without the question mark.
    """

    root: str
    query: str

    def address(self, path: str) -> str:
        """Return the URI with credentials, as `storage.Location.at` takes it."""
        quoted = re.sub(r"[%?#]", lambda found: f"%{ord(found[0]):02X}", path)
        return self.root + (path and f"/{quoted}") + (self.query and f"?{self.query}")

    def shown(self, path: str) -> str:
        """Return the URI for people: no passwords."""
        return hide_passwords(self.address(path))

    def __repr__(self) -> str:
        return f"ObjectStore({self.shown('')!r})"

    def kind(self, path: str) -> str:
        """Return "file", "folder", or "" where there is nothing."""
        kinds = {pa.fs.FileType.File: "file", pa.fs.FileType.Directory: "folder"}
        return kinds.get(self._info(path).type, "")

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        info, shown = self._info(path), self.shown(path)
        if info.type == pa.fs.FileType.NotFound:
            raise _missing(shown)
        if info.size is None:
            raise DataError(f"expected a file at {shown}, found a folder; name a file in it")
        return int(info.size)

    def entry(self, path: str) -> FileEntry | None:
        """Return name, size and time of a file; None where there is no file."""
        info = self._info(path)
        if info.type != pa.fs.FileType.File:
            return None
        return FileEntry(path.rpartition("/")[2], int(info.size), info.mtime_ns or 0)

    def files(self, path: str) -> list[FileEntry]:
        """List the files below a folder."""

        def listed() -> Any:
            filesystem, base = self._open(path)
            selector = pa.fs.FileSelector(base, recursive=True)
            return [(info, len(base) + 1) for info in filesystem.get_file_info(selector)]

        entries = (
            FileEntry(info.path[start:], info.size, info.mtime_ns or 0)
            for info, start in self.patiently(path, listed)
            if info.type == pa.fs.FileType.File
        )
        return sorted(
            (entry for entry in entries if not f"/{entry.path}".count("/.")),
            key=lambda entry: entry.path,
        )

    def open_random(self, path: str) -> "ObjectReader":
        """Open a file to read at any position."""
        return ObjectReader(self, path)

    def open_stream(self, path: str) -> BinaryIO:
        """Open a file to read from its start, ahead of who reads; it can seek too."""
        return io.BufferedReader(_Raw(self.open_random(path)), READ_BLOCK_BYTES)

    @contextlib.contextmanager
    def atomic_write(self, path: str) -> Iterator[BinaryIO]:
        """Open a local temporary file that is uploaded when the block has ended well.

        So a part is never visible, and a failed upload can be repeated from its start.
        """
        with tempfile.TemporaryFile(prefix="idm_ray-") as file:
            yield cast(BinaryIO, file)
            file.flush()
            self.patiently(path, lambda: self._upload(path, file))

    def delete(self, path: str) -> None:
        """Remove a file if it is there."""

        def remove() -> None:
            filesystem, inner = self._open(path)
            with contextlib.suppress(FileNotFoundError):
                filesystem.delete_file(inner)

        self.patiently(path, remove)

    def open_input(self, path: str) -> pa.NativeFile:
        """Open a file with pyarrow: one request, for its size."""

        def opened() -> pa.NativeFile:
            filesystem, inner = self._open(path)
            return filesystem.open_input_file(inner)

        return self.patiently(path, opened)

    def patiently(self, path: str, operation: Callable[[], T]) -> T:
        """Do something with a file, several times if it fails for reasons that may pass.

        Raises:
            DataError: It does not exist, or may not be read or written.
            StorageError: It went on failing.
        """
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(PATIENCE.tries),
            wait=tenacity.wait_exponential(PATIENCE.first_wait_s)
            + tenacity.wait_random(0, PATIENCE.first_wait_s),
            retry=tenacity.retry_if_exception(_may_pass),
            sleep=interruption.sleep,
            reraise=True,
        )
        try:
            return retrying(operation)
        except (OSError, pa.ArrowException) as error:
            has_password = hide_passwords(str(error)) != str(error)
            # A traceback would show what is left out here.
            raise _explained(error, self.shown(path)) from (None if has_password else error)

    def _info(self, path: str) -> Any:
        def info() -> Any:
            filesystem, inner = self._open(path)
            return filesystem.get_file_info(inner)

        return self.patiently(path, info)

    def arrow(self, path: str) -> tuple[pa.fs.FileSystem, str]:
        """The file system for those who do without our retries, and the path in it.

        It works in this process alone, so that nobody writes its credentials down.
        """
        filesystem, inner = self._open(path)
        return kept_private(filesystem), inner

    def _open(self, path: str) -> tuple[Any, str]:
        """The file system, and the path as it is called there."""
        filesystem, base = open_filesystem(self.root, self.query, PATIENCE)
        return filesystem, (base + path).rstrip("/")

    def _upload(self, path: str, file: IO[bytes]) -> None:
        # A stream that is given up by an exception of Python is completed when it is destroyed:
        # half an object. Signals raise only in the main thread, so this runs in another.
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            thread.submit(self._send, path, file).result()

    def _send(self, path: str, file: IO[bytes]) -> None:
        # Mapped, not read: reading may fail, and a failure here must be one of the stream's own.
        num_bytes = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if num_bytes else b""
        content = memoryview(mapped)
        filesystem, inner = self._open(path)
        stream = filesystem.open_output_stream(inner, compression=None)
        try:
            for start in range(0, num_bytes, _WRITE_BLOCK_BYTES):
                stream.write(content[start : start + _WRITE_BLOCK_BYTES])
                stream.flush()  # or all of it would be in memory, waiting to be sent
            stream.close()
        except OSError:
            # Nothing becomes of it now. Left to its destructor it would still send the rest, and
            # stop all threads of Python meanwhile.
            with contextlib.suppress(OSError):
                stream.close()
            raise


class ObjectReader:
    """Reads an object at any position, one request each; threads may share it."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store, self._path = store, path
        self._file = store.open_input(path)
        self.size = int(self._file.size())

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises:
            DataError: The object ends before.
            StorageError: The store went on failing.
        """
        end = offset + length
        if end > self.size:
            raise DataError(too_short(self._store.shown(self._path), end, self.size))
        if not length:
            return b""
        found = self._store.patiently(self._path, lambda: self._file.read_at(length, offset))
        if len(found) < length:  # replaced by a shorter one since it was opened
            shown = self._store.shown(self._path)
            raise DataError(too_short(shown, end, offset + len(found)))
        return bytes(found)

    def close(self) -> None:
        """Let go of the object."""
        self._file.close()

    def __enter__(self) -> "ObjectReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Raw(io.RawIOBase):
    """What `io.BufferedReader` asks of a file."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader, self._position = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}
        self._position = max(0, start[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._reader.size - self._position))
        buffer[:length] = self._reader.read_at(self._position, length)
        self._position += length
        return length

    def readall(self) -> bytes:
        # The inherited one asks for 8 KiB at a time: a request each.
        blocks = []
        while length := max(0, min(READ_BLOCK_BYTES, self._reader.size - self._position)):
            blocks.append(self._reader.read_at(self._position, length))
            self._position += length
        return b"".join(blocks)

    def close(self) -> None:
        self._reader.close()
        super().close()


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError) and bool(_MAY_PASS.search(str(error)))


def _explained(error: Exception, shown: str) -> IdmRayError:
    """What to raise instead of pyarrow's error."""
    reason = hide_passwords(" ".join(str(error).split()))
    if _may_pass(error):
        return StorageError(
            f"{shown}: gave up after {PATIENCE.tries} tries ({reason}); check the network and the "
            "store, and run it again"
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _MISSING.search(reason):
        return _missing(shown)
    if isinstance(error, PermissionError) or _DENIED.search(reason):
        is_s3 = shown.startswith("s3://")
        keys = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to" if is_s3 else "use"
        return DataError(f"no access to {shown}: {keys} credentials that give it ({reason})")
    if _ELSEWHERE.search(reason):
        return DataError(f"{shown} is in another region: set AWS_REGION to the bucket's ({reason})")
    if isinstance(error, pa.ArrowInvalid):
        return DataError(
            f"expected a path or a URI that pyarrow.fs opens, such as s3://bucket/folder, got "
            f"{shown} ({reason})"
        )
    return StorageError(f"{shown}: {reason}")


def _missing(shown: str) -> DataError:
    is_s3 = shown.startswith("s3://")
    endpoint = ", and the endpoint (AWS_ENDPOINT_URL) if it is not Amazon's" if is_s3 else ""
    return DataError(f"expected a file or folder at {shown}, found none: check its name{endpoint}")
