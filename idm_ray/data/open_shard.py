"""A shard while it is written: a tar file in WebDataset's form, the same bytes every time."""

import hashlib
import io
from typing import BinaryIO

from idm_ray.data.manifest import FileRecord
from idm_ray.storage import Location

_BLOCK = 512
"""Bytes of a member's header, and what its content is padded to."""


class OpenShard:
    """A shard that is being written; it takes its name when it is closed without an error."""

    def __init__(self, target: Location, path: str) -> None:
        # It brings torch along, which nothing else here needs.
        from webdataset import TarWriter  # noqa: PLC0415

        self.path = path
        self._upload = (target / path).atomic_write()
        self._file = _Hashed(self._upload.__enter__())
        self._tar = TarWriter(self._file, encoder=False, mtime=0, user="idm_ray", group="idm_ray")

    @property
    def size(self) -> int:
        """Bytes of all members so far."""
        return int(self._tar.tarstream.offset)

    def add(self, key: str, label: int, suffix: str, content: bytes) -> int:
        """Add an image with its label; returns where its bytes begin."""
        self._tar.write({"__key__": key, "cls": str(label).encode()})
        self._tar.write({"__key__": key, suffix: content})
        return self.size - member_bytes(len(content)) + _BLOCK

    def close(self, error: BaseException | None) -> FileRecord:
        """Finish the file, or leave nothing of it behind."""
        if error is None:
            self._tar.close()
        self._upload.__exit__(type(error) if error else None, error, None)
        return FileRecord(
            path=self.path, size=self._file.size, sha256=self._file.digest.hexdigest()
        )


class _Hashed(io.RawIOBase):
    """A file to write to that computes its checksum on the way."""

    def __init__(self, file: BinaryIO) -> None:
        self._to = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of it."""
        self._to.write(data)
        self.digest.update(data)
        self.size += len(data)
        return len(data)


def member_bytes(length: int) -> int:
    """What a member with so many bytes takes in a tar file."""
    return _BLOCK + -(-length // _BLOCK) * _BLOCK
