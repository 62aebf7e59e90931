"""Zip archives whose members lie in them as they are: nothing in one can grow when it is read."""

import contextlib
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from idm_ray.errors import CondensedSetError
from idm_ray.results.card import REMEDY

_ENCRYPTED: Final = 1


@contextlib.contextmanager
def plain_zip(file: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Open an archive to read.

    Raises:
        CondensedSetError: It is damaged, or a member is compressed, encrypted or overlaps others.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise CondensedSetError(
            f"expected a zip archive, found none ({error}); {REMEDY}"
        ) from error
    with archive:
        members = archive.infolist()
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
                raise CondensedSetError(
                    f"expected members as they are, found {member.filename!r} compressed or "
                    "encrypted; write it again with idm-ray export"
                )
        if sum(member.file_size for member in members) > file.seek(0, 2):
            raise CondensedSetError(f"expected members within the archive, found larger; {REMEDY}")
        yield archive
