"""A file that grows by whole pieces, on a disk that may fail for a while."""

import contextlib
import os
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path


class AppendedFile:
    """Appends to a file which one process writes; any of its threads.

    A piece that cannot be written is kept in memory and tried again with the next one; the file
    never holds a part of a piece for longer than the disk takes to become writable.

    Args:
        path: Of the file; it need not exist.
        end: Of its last whole piece, in bytes; what comes behind is cut off.
    """

    def __init__(self, path: Path, end: int = 0) -> None:
        self._path, self._end = path, end
        self._waiting: list[bytes] = []
        self._writing = threading.Lock()
        if path.exists():
            self._mend()

    def append(self, piece: bytes) -> None:
        """Append a piece; on return, the system has it.

        Raises:
            OSError: It cannot be written; names the file. The piece is kept.
        """
        with self._writing:
            self._waiting.append(piece)
            self._write()

    def flush(self) -> None:
        """Write the pieces that could not be written yet, if there are any.

        Raises:
            OSError: They still cannot; names the file. They are kept.
        """
        with self._writing:
            if self._waiting:
                self._write()

    def _write(self) -> None:
        content = b"".join(self._waiting)
        try:
            with self._opened() as file:
                rest = content
                # Unbuffered and at once, so that a killed run leaves whole pieces; a disk that
                # fills up takes a part without an error, and refuses the next.
                while rest:
                    rest = rest[file.write(rest) :]
        except OSError as error:
            self._mend()
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        # Not before it is closed: some file systems notice only then that the disk is full.
        self._end += len(content)
        self._waiting.clear()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """The file, open to append to its last whole piece."""
        with open(self._path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size > self._end:
                file.truncate(self._end)
            self._end = min(size, self._end)
            yield file

    def _mend(self) -> None:
        """Cut off a part of a piece, if the disk lets us; if not, the next write does."""
        with contextlib.suppress(OSError), self._opened():
            pass
