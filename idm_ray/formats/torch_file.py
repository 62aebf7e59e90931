"""A condensed set as one file of torch tensors, which loads with `weights_only=True`."""

import io
import json
import pickle  # nosec B403 # only the name of its exception
import warnings
from typing import BinaryIO, Final

import torch

from idm_ray.errors import CondensedSetError
from idm_ray.formats.stored import Seal, StoredSet, labels_of, sealed_card
from idm_ray.results.card import REMEDY
from idm_ray.storage import Location

ERRORS: Final = (pickle.UnpicklingError, RuntimeError, EOFError)
"""What torch raises on a file that is not one of its own."""


def write(file: BinaryIO, stored: StoredSet) -> None:
    """Write a dictionary of images, labels, class names, usage, and the card as plain values."""
    card = stored.card
    # On a full disk torch raises what hides the reason, so it writes to memory.
    content = io.BytesIO()
    torch.save(
        {
            "images": torch.from_numpy(stored.images),
            "labels": torch.from_numpy(stored.labels),
            "class_names": list(card.class_names),
            "usage": card.usage,
            "card": json.loads(sealed_card(card, stored.images)),
        },
        content,
    )
    file.write(content.getbuffer())


def read(place: Location) -> StoredSet:
    """Read it back, verified; runs no code from the file.

    Raises:
        CondensedSetError: Damaged, or not of this form.
    """
    with place.open_stream() as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange files, which are refused anyhow
        saved = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(saved, dict) or not isinstance(saved.get("card"), dict):
        raise CondensedSetError(f"expected a card beside the tensors, found none; {REMEDY}")
    seal = Seal(json.dumps(saved["card"], allow_nan=False).encode())
    images = saved.get("images")
    if not isinstance(images, torch.Tensor) or images.dtype != torch.float32:
        raise CondensedSetError(f"expected a float32 tensor of images, found none; {REMEDY}")
    pixels = images.numpy()
    seal.check(pixels)
    return StoredSet(images=pixels, labels=labels_of(seal.card), card=seal.card)
