"""The seal of a Parquet footer: its SHA-256, in the gap that Parquet allows before it.

Parquet protects pages by checksums but not the footer, on which all else depends. The file ends
in: mark, hash (32 bytes), footer, length of the footer (4 bytes), "PAR1"; the hash is over the
last three. Any Parquet reader finds the footer from the end and so passes over the seal.
"""

import hashlib
import os
from typing import BinaryIO, Final

from idm_ray.errors import CondensedSetError
from idm_ray.results.card import REMEDY

_MARK: Final = b"idm_ray footer seal 1\0"
_SEAL_BYTES: Final = len(_MARK) + hashlib.sha256().digest_size
_TAIL_BYTES: Final = 8


def seal_footer(file: BinaryIO) -> None:
    """Puts the seal before the footer of a complete Parquet file, open for reading and writing."""
    start = file.seek(_footer_start(file))
    content = file.read()
    file.seek(start)
    file.write(_seal_of(content) + content)


def check_footer_seal(file: BinaryIO) -> None:
    """Checks the footer of a file that `seal_footer` wrote, open for reading.

    Raises:
        CondensedSetError: The end of the file is missing or changed, or never had a seal.
    """
    file.seek(max(0, _footer_start(file) - _SEAL_BYTES))
    seal = file.read(_SEAL_BYTES)
    # The mark first: a damaged length may call gigabytes of pixels the footer.
    if not seal.startswith(_MARK) or seal != _seal_of(file.read()):
        raise CondensedSetError(
            "expected a footer that matches its seal, found another file or a damaged one; "
            f"{REMEDY}"
        )


def _seal_of(content: bytes) -> bytes:
    """The seal of a footer with its length and closing "PAR1"."""
    return _MARK + hashlib.sha256(content).digest()


def _footer_start(file: BinaryIO) -> int:
    """Returns where the footer starts, by its length at the end of the file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    start = size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or start < 0:
        raise CondensedSetError(
            f"expected a Parquet file, found another or only a part of one; {REMEDY}"
        )
    return start
