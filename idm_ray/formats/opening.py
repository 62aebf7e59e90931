"""Reads a condensed set in whatever form it was handed on."""

import os
import tarfile
import tokenize
import zipfile
from typing import TYPE_CHECKING, Final

from idm_ray.errors import CondensedSetError
from idm_ray.formats import image_folder, npz, tars
from idm_ray.formats.card_file import CARD_FILE, read_card_file
from idm_ray.formats.forms import FOLDER, WEBDATASET
from idm_ray.formats.stored import StoredSet
from idm_ray.results.condensed import read_arrays
from idm_ray.results.unreadable import one_line_errors
from idm_ray.storage import Location

if TYPE_CHECKING:
    from idm_ray.results.condensed_set import CondensedSet

_FOLDERS: Final = {FOLDER: image_folder.read, WEBDATASET: tars.read}
# What numpy and Pillow raise on damaged headers beside the errors that they document.
_OF_HEADERS: Final = (SyntaxError, EOFError, tokenize.TokenError)
_OF_A_RUN: Final = "condensed.parquet"


def load(path: str | os.PathLike[str]) -> "CondensedSet":
    """Load a condensed set as torch tensors, verified; runs no code from the file.

    Args:
        path: A path or a URI: of a condensed.parquet, of the folder of its run, or of what
            `export` wrote.

    Raises:
        CondensedSetError: Not a condensed set, damaged, or of a newer format.
        StorageError: A remote store went on failing.

    >>> synthetic = idm_ray.load("runs/demo")
    >>> synthetic
    <CondensedSet: 10 classes x 1 images of 1 x 8 x 8, idm on digits>
    >>> synthetic.card.partition, synthetic.images.shape, synthetic.labels.dtype
    (1, torch.Size([10, 1, 8, 8]), torch.int64)
    """
    import torch  # noqa: PLC0415 -- who reads arrays needs none

    from idm_ray.results.condensed_set import CondensedSet  # noqa: PLC0415

    stored = read_set(path)
    return CondensedSet(
        images=torch.from_numpy(stored.images),
        labels=torch.from_numpy(stored.labels),
        card=stored.card,
    )


def read_set(path: str | os.PathLike[str]) -> StoredSet:
    """Read and verify a condensed set; arguments and errors are those of `load`."""
    place = Location.at(path)
    if place.is_folder():
        return _read_folder(place)
    suffix = os.path.splitext(place.name)[1].lower()
    if suffix == ".npz":
        with one_line_errors(str(place), zipfile.BadZipFile, RuntimeError, *_OF_HEADERS):
            return npz.read(place)
    if suffix == ".pt":
        from idm_ray.formats import torch_file  # noqa: PLC0415 -- torch is imported there

        with one_line_errors(str(place)):
            return torch_file.read(place)
    images, labels, card = read_arrays(path)
    return StoredSet(images=images, labels=labels, card=card)


def _read_folder(folder: Location) -> StoredSet:
    if (folder / _OF_A_RUN).exists():
        return read_set((folder / _OF_A_RUN).address)
    if not (folder / CARD_FILE).exists():
        raise CondensedSetError(
            f"{folder}: expected a condensed set, found a folder without {_OF_A_RUN} or "
            f"{CARD_FILE}; name the folder of a run, or what idm-ray export wrote"
        )
    with one_line_errors(str(folder), tarfile.TarError, *_OF_HEADERS):
        form, seal = read_card_file(folder)
        if form not in _FOLDERS:
            raise CondensedSetError(
                f"expected one of the forms {', '.join(_FOLDERS)}, found {form!r}; install a newer "
                "version of idm_ray"
            )
        return _FOLDERS[form](folder, seal)
