"""A condensed set as one NumPy archive, without pickle."""

import io
import zipfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from idm_ray.errors import CondensedSetError
from idm_ray.formats.stored import Seal, StoredSet, labels_of, sealed_card
from idm_ray.results.card import REMEDY
from idm_ray.storage import Location

# Of an array's header in the archive, generously.
_HEADER_BYTES = 2**16
_CARD_BYTES = 2**26


def write(file: BinaryIO, stored: StoredSet) -> None:
    """Write images, labels, names, mean, std and partition as arrays, and the card as JSON."""
    card = stored.card
    np.savez(
        file,
        images=stored.images,
        labels=stored.labels,
        class_names=np.array(card.class_names),
        mean=np.array(card.mean),
        std=np.array(card.std),
        partition=np.array(card.partition),
        usage=np.array(card.usage),
        card=np.array(sealed_card(card, stored.images).decode()),
    )


def read(place: Location) -> StoredSet:
    """Read it back, verified; runs no code from the file.

    Raises:
        CondensedSetError: Damaged, or not of this form.
    """
    with place.open_stream() as file, zipfile.ZipFile(file) as archive:
        seal = Seal(str(_member(archive, "card", _CARD_BYTES)).encode())
        images = _member(archive, "images", 4 * int(np.prod(seal.shape)) + _HEADER_BYTES)
        if images.dtype != np.float32:
            raise CondensedSetError(f"expected float32 images, found {images.dtype}; {REMEDY}")
        seal.check(images)
    return StoredSet(images=images, labels=labels_of(seal.card), card=seal.card)


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> npt.NDArray[Any]:
    """Return an array of the archive that may take so many bytes unpacked."""
    found = archive.getinfo(f"{name}.npy").file_size
    if found > limit:
        raise CondensedSetError(
            f"expected at most {limit} bytes of {name}, found {found}; {REMEDY}"
        )
    loaded: npt.NDArray[Any] = np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
    return loaded
