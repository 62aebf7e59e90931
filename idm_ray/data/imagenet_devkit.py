"""The classes of ImageNet's validation images, from its development kit: packed, or unpacked."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from idm_ray.errors import DataError

_FOLDER = "ILSVRC2012_devkit_t12"
_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
_LARGEST_BYTES = 64 * 2**20
"""Of each of the two files; the published ones have less than 1 MB."""


def find_devkit(root: Path) -> tuple[Path, ...]:
    """Return the archive, or else the two files of the unpacked folder; () if there is neither."""
    archive = root / f"{_FOLDER}.tar.gz"
    if archive.is_file():
        return (archive,)
    unpacked = (root / _FOLDER / _META, root / _FOLDER / _TRUTH)
    return unpacked if all(path.is_file() for path in unpacked) else ()


def read_devkit(paths: Sequence[Path]) -> tuple[str, ...]:
    """Read the class of each validation image.

    Args:
        paths: What `find_devkit` found.

    Returns:
        WordNet identifiers ("n01440764"), in the order of the images' numbers.

    Raises:
        DataError: A file is missing, damaged or not what the development kit has.
    """
    place = paths[0] if len(paths) == 1 else paths[0].parent
    try:
        meta, truth = _read_packed(paths[0]) if len(paths) == 1 else _read_unpacked(paths)
        wnid_of = _wnids(meta)
        numbers = [int(line) for line in truth.decode("ascii").split()]
        if not numbers:
            raise ValueError("the ground truth is empty")
        return tuple(wnid_of[number] for number in numbers)
    except MemoryError:
        raise
    except Exception as error:  # as many kinds as there are ways to damage a gz, tar or mat file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"expected ImageNet's development kit, found {place} damaged or incomplete "
            f"({type(error).__name__}: {reason}): download it again"
        ) from error


def _read_unpacked(paths: Sequence[Path]) -> tuple[bytes, bytes]:
    meta, truth = paths
    return meta.read_bytes(), truth.read_bytes()


def _read_packed(archive: Path) -> tuple[bytes, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            for name in (_META, _TRUTH):
                if member.isreg() and member.name.endswith(f"/{name}"):
                    found[name] = _read_member(tar, member)
    return found[_META], found[_TRUTH]


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _LARGEST_BYTES:
        raise ValueError(f"{member.name} has {member.size} bytes")
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


def _wnids(meta: bytes) -> dict[int, str]:
    """Read which WordNet identifier each number of the ground truth stands for."""
    from scipy.io import loadmat  # noqa: PLC0415 -- slow, and other sources do not need it

    synsets = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
