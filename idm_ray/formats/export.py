"""Writes a condensed set in the form that others want it in."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from idm_ray.algorithm.expansion import expand as expand_images
from idm_ray.checks import is_utf8
from idm_ray.errors import CondensedSetError, DataError, UserError
from idm_ray.formats import image_folder, npz, tars, torch_file
from idm_ray.formats.card_file import CARD_FILE, read_card_file
from idm_ray.formats.forms import FILES, FOLDER, FORMS, WEBDATASET
from idm_ray.formats.opening import read_set
from idm_ray.formats.stored import StoredSet
from idm_ray.storage import Location, shown

_WRITE: Final = dict(zip(FILES, (torch_file.write, npz.write), strict=True))
_PARTS: Final = {FOLDER: image_folder.parts, WEBDATASET: tars.parts}
# What files are called, and folders are not.
_OF_FILES: Final = (*FILES, "parquet", "tar", "zip", "tgz", "gz")
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
        out: a new file or folder, by path or URI; files end in .pt or .npz.
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
    written = _in_words(out, "out")
    form = _form_of(form, written)
    place = Location.at(written)
    _check_place(place, form, overwrite=overwrite)
    stored = read_set(_in_words(file, "file"))
    if expand:
        stored = _expanded(stored)
    if form in FILES:
        with place.atomic_write() as target:
            _WRITE[form](target, stored)
    elif place.local is None:
        _write_remote(place, _FOLDERS[form](stored))
    else:
        _write_folder(place.local, _FOLDERS[form](stored), replaces=overwrite)
    return Exported(
        out=shown(out),
        form=form,
        num_images=len(stored.images),
        partition=stored.card.partition,
        usage=stored.card.usage,
        clipped=_clipped(stored) if form == FOLDER else None,
    )


def _in_words(path: str | os.PathLike[str], name: str) -> str:
    text = os.fspath(path)
    if not text or not is_utf8(text):
        raise UserError(f"{name} must be a path in UTF-8, got {text!r}")
    return text


def _form_of(form: str | None, out: str) -> str:
    """The form that is asked for, which the end of `out` must not contradict."""
    suffix = os.path.splitext(Location.at(out).name)[1].lower().removeprefix(".")
    form = form or (suffix if suffix in FILES else FOLDER)
    if form not in FORMS:
        raise UserError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if form in FILES and suffix != form:
        raise UserError(f"expected --out to end in .{form}, got {out!r}; name a file so")
    if form not in FILES and suffix in _OF_FILES:
        raise UserError(
            f"expected a folder for the form {form}, got {out!r}, which is called like a file; "
            "choose another --out or --format"
        )
    return form


def _check_place(place: Location, form: str, *, overwrite: bool) -> None:
    """Refuse to replace anything but an export of this form, whole and with nothing beside it.

    Raises:
        UserError: There is something, and it may not be replaced.
    """
    if not place.exists():
        return
    foreign = _foreign(place, form)
    if foreign is not None:
        raise UserError(
            f"expected nothing or an earlier export to {form} at {place}, found {foreign}; choose "
            "another --out"
        )
    if not overwrite:
        raise UserError(
            f"expected nothing at {place}, found an earlier export; add --overwrite or choose "
            "another --out"
        )


def _foreign(place: Location, form: str) -> str | None:
    """What is there that is no export of this form, in words; None if there is nothing else."""
    if form in FILES:
        try:
            read_set(place.address)
        except CondensedSetError:
            return "another file" if place.is_file() else "a folder"
        return None if place.is_file() else "a folder"
    if not place.is_folder():
        return "a file"
    try:
        written, seal = read_card_file(place)
    except (CondensedSetError, DataError):
        return f"a folder without a sound {CARD_FILE}"
    if written not in _PARTS:
        return f"an export to {written}"
    is_part = _PARTS[written](seal.card)
    other = next((path for path in _all_files(place) if not is_part(path)), None)
    return None if other is None else f"{other!r} in it"


def _all_files(folder: Location) -> Iterator[str]:
    """Paths of all files below a folder, hidden ones and links to folders among them."""
    if folder.local is None:
        yield from (file.path for file in folder.files())
        return
    for path in folder.local.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder.local).as_posix()


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


def _write_folder(folder: Path, files: Iterable[tuple[str, bytes]], *, replaces: bool) -> None:
    """Write a folder that takes its name when all of it is there; an older one stays until then.

    Raises:
        OSError: It could not be written; or a folder has come there meanwhile, and stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".idm_ray-export.") as made:
        new, old = Path(made, "new"), Path(made, "old")
        for name, content in files:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        try:
            if replaces and folder.exists():
                folder.rename(old)
            new.rename(folder)
        except BaseException:
            # Also for a signal that comes between the two.
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise


def _write_remote(folder: Location, files: Iterable[tuple[str, bytes]]) -> None:
    """Write a folder of objects, the card last: without it, there is no set."""
    stale = {file.path for file in folder.files()} if folder.is_folder() else set()
    (folder / CARD_FILE).delete()
    for name, content in files:
        (folder / name).write_bytes(content)
        stale.discard(name)
    for name in sorted(stale):
        (folder / name).delete()
