"""A condensed set as class folders of PNG files, for people and for torchvision's ImageFolder.

PNG holds 8 bits: what lies outside of black to white is cut, and the rest is rounded.
"""

import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from idm_ray.errors import CondensedSetError
from idm_ray.formats.card_file import CARD_FILE, README_FILE, card_file, readme_file
from idm_ray.formats.forms import FOLDER
from idm_ray.formats.stored import Seal, StoredSet, labels_of, names_of, sealed_card
from idm_ray.results.card import REMEDY, Card
from idm_ray.results.pictures import encode_png, to_uint8
from idm_ray.storage import Location

# What every file system and tool takes as a folder's name.
_PLAIN: Final = re.compile(r"\w[\w ,()'+-]{0,99}")

# Of a PNG: signature, header, some data and the end.
_LEAST_PNG_BYTES: Final = 60
# Of a folder's name; file systems take 255 bytes, and the number and a temporary name come before.
_LONGEST_NAME_BYTES: Final = 200

_LOADING: Final = """import torchvision
from torchvision.transforms import v2

images = torchvision.datasets.ImageFolder(".", v2.Compose([
    {grey}v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
    v2.Normalize({mean}, {std}),
]))"""


def files(stored: StoredSet) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files, the card last."""
    # What was tested were the exact numbers.
    card = dataclasses.replace(stored.card, evaluation=None)
    pixels = to_uint8(stored.images, mean=card.mean, std=card.std)
    for path, image in zip(_paths(card), pixels, strict=True):
        yield path, encode_png(image)
    loading = _LOADING.format(
        grey="v2.Grayscale(), " if card.image_shape[0] == 1 else "",
        mean=list(card.mean),
        std=list(card.std),
    )
    yield readme_file(
        card,
        "Each class has a folder of PNG files; sorted by name, the folders are in the order of the "
        "labels 0, 1, ... A PNG holds 8 bits: what is darker than black or brighter than white was "
        "cut, which other forms keep.",
        f"import torch\n{loading}",
    )
    yield card_file(FOLDER, sealed_card(card, pixels))


def read(folder: Location, seal: Seal) -> StoredSet:
    """Read the images back, verified; their numbers are those of 8 bits.

    Raises:
        CondensedSetError: An image is missing, damaged or changed.
    """
    card = seal.card
    seal.expect(sum(file.size for file in folder.files()), each=_LEAST_PNG_BYTES)
    pixels = np.empty(seal.shape, np.uint8)
    for row, path in enumerate(_paths(card)):
        pixels[row] = _read_png(folder / path, card)
    return seal.check(pixels, labels_of(card))


def parts(card: Card) -> Callable[[str], bool]:
    """Return what tells the files of a folder with this card, by their paths, from others."""
    return {*_paths(card), README_FILE, CARD_FILE}.__contains__


def folder_names(class_names: tuple[str, ...]) -> list[str]:
    """Return a folder's name for each class, such that sorting them keeps the order of labels.

    Class names as they are, where that is so and every file system takes them; else each after its
    number, without what may not stand in a name.
    """
    is_plain = all(
        _PLAIN.fullmatch(name) and len(name.encode()) <= _LONGEST_NAME_BYTES for name in class_names
    )
    are_different = len({name.casefold() for name in class_names}) == len(class_names)
    if is_plain and are_different and sorted(class_names) == list(class_names):
        return list(class_names)
    digits = len(str(len(class_names) - 1))
    plain = (re.sub(r"[^\w ,()'+-]", "_", name).encode() for name in class_names)
    cut = (name[:_LONGEST_NAME_BYTES].decode(errors="ignore") for name in plain)
    return [f"{label:0{digits}d}-{name}" for label, name in enumerate(cut)]


def _paths(card: Card) -> list[str]:
    folders = folder_names(card.class_names)
    labels = labels_of(card)
    return [
        f"{folders[label]}/{name}.png" for label, name in zip(labels, names_of(card), strict=True)
    ]


def _read_png(place: Location, card: Card) -> npt.NDArray[np.uint8]:
    """Return one image as (C, H, W)."""
    channels, height, width = card.image_shape
    with _open_png(place.read_bytes()) as picture:
        expected = (width, height), "L" if channels == 1 else "RGB"
        if (found := (picture.size, picture.mode)) != expected:
            raise CondensedSetError(f"{place}: expected {expected}, found {found}; {REMEDY}")
        pixels = np.asarray(picture)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _open_png(content: bytes) -> Image.Image:
    """Open it, and refuse what could be a decompression bomb, of which Pillow may only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(content), formats=["PNG"])
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise CondensedSetError(
                f"expected an image of the card's size, found {error}"
            ) from error
