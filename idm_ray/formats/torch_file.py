"""A condensed set as one file of torch tensors, which loads with `weights_only=True`."""

import io
import json
import warnings
from typing import Any, BinaryIO

import torch

from idm_ray.errors import CondensedSetError
from idm_ray.formats.plain_zip import plain_zip
from idm_ray.formats.stored import Seal, StoredSet, sealed_card
from idm_ray.results.card import REMEDY
from idm_ray.storage import Location


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
        with plain_zip(file):  # else what torch unpacks could be of any size
            file.seek(0)
        saved = _load(file)
    if not isinstance(saved, dict) or not isinstance(saved.get("card"), dict):
        raise CondensedSetError(f"expected a card beside the tensors, found none; {REMEDY}")
    seal = Seal(json.dumps(saved["card"], allow_nan=False).encode())
    seal.expect(place.size(), each=4 * seal.card.num_pixels)
    images, labels = saved.get("images"), saved.get("labels")
    if not isinstance(images, torch.Tensor) or not isinstance(labels, torch.Tensor):
        raise CondensedSetError(f"expected tensors of images and labels, found none; {REMEDY}")
    if images.shape != seal.shape or images.dtype != torch.float32 or not images.is_contiguous():
        raise CondensedSetError(f"expected float32 {seal.shape}, found another tensor; {REMEDY}")
    described = {"class_names": list(seal.card.class_names), "usage": seal.card.usage}
    if {name: saved.get(name) for name in described} != described:
        raise CondensedSetError(f"expected {' and '.join(described)} of the card, found others")
    return seal.check(images.numpy(), labels.numpy())


def _load(file: BinaryIO) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every type on damaged or hostile bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CondensedSetError(
            f"expected tensors that torch loads without running code, found {reason}; {REMEDY}"
        ) from error
