"""A condensed set as one NumPy archive, without pickle."""

import io
import zipfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from idm_ray.errors import CondensedSetError
from idm_ray.formats.plain_zip import plain_zip
from idm_ray.formats.stored import Seal, StoredSet, sealed_card
from idm_ray.results.card import REMEDY, Card
from idm_ray.storage import Location


def write(file: BinaryIO, stored: StoredSet) -> None:
    """Write images, labels, names, mean, std and partition as arrays, and the card as JSON."""
    card = stored.card
    arrays: dict[str, Any] = {
        "images": stored.images,
        "labels": stored.labels,
        **_described(card),
        "card": np.array(sealed_card(card, stored.images).decode()),
    }
    np.savez(file, **arrays)


def read(place: Location) -> StoredSet:
    """Read it back, verified; runs no code from the file.

    Raises:
        CondensedSetError: Damaged, or not of this form.
    """
    with place.open_stream() as file, plain_zip(file) as archive:
        seal = Seal(str(_member(archive, "card")).encode())
        seal.expect(place.size(), each=4 * seal.card.num_pixels)
        images, card = _member(archive, "images"), seal.card
        if images.dtype != np.float32:
            raise CondensedSetError(f"expected float32 images, found {images.dtype}; {REMEDY}")
        for name, expected in _described(card).items():
            if not np.array_equal(_member(archive, name), expected):
                raise CondensedSetError(f"expected {name} as in the card, found others; {REMEDY}")
        return seal.check(images, _member(archive, "labels"))


def _described(card: Card) -> dict[str, npt.NDArray[Any]]:
    """What the card says, as arrays for those who do not read it."""
    return {
        "class_names": np.array(card.class_names),
        "mean": np.array(card.mean),
        "std": np.array(card.std),
        "partition": np.array(card.partition),
        "usage": np.array(card.usage),
    }


def _member(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """Return an array of the archive."""
    loaded: npt.NDArray[Any] = np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)
    return loaded
