"""Writes a condensed set in the form that others want it in."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from idm_ray.algorithm.expansion import expand as expand_images
from idm_ray.errors import UserError
from idm_ray.formats import image_folder, npz, tars, torch_file
from idm_ray.formats.card_file import CARD_FILE
from idm_ray.formats.forms import FILES, FOLDER, FORMS, WEBDATASET
from idm_ray.formats.opening import read_set
from idm_ray.formats.stored import StoredSet
from idm_ray.storage import Location, shown

_WRITE: Final = dict(zip(FILES, (torch_file.write, npz.write), strict=True))
_FOLDERS: Final = {FOLDER: image_folder.files, WEBDATASET: tars.files}


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        out: where, without a password.
        form: one of `FORMS`.
        num_images: how many images.
        partition: tiles per side that training must still expand; 1 for none.
        usage: how to train on the images, in a sentence.
        clipped: the share of numbers that 8 bits cannot hold, which were cut; None where the
            numbers are exact.
    """

    out: str
    form: str
    num_images: int
    partition: int
    usage: str
    clipped: float | None


def export(
    file: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    form: str | None = None,
    expand: bool = False,
    overwrite: bool = False,
) -> Exported:
    """Write a condensed set in another form, which `load` and `evaluate` take as well.

    Args:
        file: a condensed set, as for `load`.
        out: a new file or folder, by path or URI.
        form: folder (of class folders with PNG files), webdataset (tars), pt or npz; by default
            what the end of `out` says, else folder.
        expand: cut each image into its tiles, enlarged as training needs them (Sec. 4.1).
        overwrite: replace what an earlier export wrote to `out`.

    Raises:
        UserError: an unknown form, or `out` is there already.
        CondensedSetError: the set is damaged or no condensed set.
        StorageError, OSError: it could not be written; nothing half-written is left.

    >>> idm_ray.export("runs/demo", out="demo.pt", expand=True).partition
    1
    """
    form = form or _form_of(out)
    if form not in FORMS:
        raise UserError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    place = Location.at(out)
    _refuse_existing(place, form, overwrite=overwrite)
    stored = read_set(file)
    if expand:
        stored = _expanded(stored)
    if form in FILES:
        with place.atomic_write() as target:
            _WRITE[form](target, stored)
    elif place.local is None:
        _write_remote(place, _FOLDERS[form](stored))
    else:
        _write_folder(place.local, _FOLDERS[form](stored))
    return Exported(
        out=shown(out),
        form=form,
        num_images=len(stored.images),
        partition=stored.card.partition,
        usage=stored.card.usage,
        clipped=_clipped(stored) if form == FOLDER else None,
    )


def _form_of(out: str | os.PathLike[str]) -> str:
    suffix = os.path.splitext(Location.at(out).name)[1].removeprefix(".")
    return suffix if suffix in FILES else FOLDER


def _refuse_existing(place: Location, form: str, *, overwrite: bool) -> None:
    if not place.exists():
        return
    if not overwrite:
        raise UserError(
            f"expected a new {'file' if form in FILES else 'folder'} at {place}, found one that "
            "is there; add --overwrite or choose another --out"
        )
    is_ours = place.is_file() if form in FILES else (place / CARD_FILE).exists()
    if not is_ours:
        raise UserError(
            f"expected what an earlier export to {form} wrote at {place}, found something else; "
            "choose another --out"
        )


def _expanded(stored: StoredSet) -> StoredSet:
    """The set of the enlarged tiles, each an image of its own."""
    card = stored.card
    tiles = card.partition**2
    if tiles == 1:
        return stored
    images = expand_images(torch.from_numpy(stored.images), card.partition).numpy()
    plain = dataclasses.replace(card, partition=1, ipc=card.ipc * tiles, usage="")
    usage = (
        f"{plain.usage} They are the {tiles} enlarged tiles of each of {card.num_images} images."
    )
    return StoredSet(
        images=images,
        labels=stored.labels.repeat(tiles),
        card=dataclasses.replace(plain, usage=usage),
    )


def _clipped(stored: StoredSet) -> float:
    """Share of the numbers that are darker than black or brighter than white."""
    scale, shift = (
        np.reshape(values, (-1, 1, 1)) for values in (stored.card.std, stored.card.mean)
    )
    shades = 255 * (stored.images * scale + shift)
    return float(np.mean((shades < -0.5) | (shades > 255.5)))


def _write_folder(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder that takes its name when all of it is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        new, old = Path(made) / "new", Path(made) / "old"
        for name, content in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)


def _write_remote(folder: Location, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder of objects, the card last: without it, there is no set."""
    (folder / CARD_FILE).delete()
    stale = {entry.path for entry in folder.files()} if folder.is_folder() else set()
    for name, content in files:
        (folder / name).write_bytes(content)
        stale.discard(name)
    for name in sorted(stale):
        (folder / name).delete()
