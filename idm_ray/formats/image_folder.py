"""A condensed set as class folders of PNG files, for people and for torchvision's ImageFolder.

PNG holds 8 bits: what lies outside of black to white is cut, and the rest is rounded.
"""

import dataclasses
import io
import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from idm_ray.errors import CondensedSetError
from idm_ray.formats.card_file import card_file, readme_file
from idm_ray.formats.forms import FOLDER
from idm_ray.formats.stored import Seal, StoredSet, labels_of, names_of, sealed_card
from idm_ray.results.card import REMEDY, Card
from idm_ray.results.pictures import encode_png, from_uint8, to_uint8
from idm_ray.storage import Location

# What every file system and tool takes as a folder's name.
_PLAIN: Final = re.compile(r"\w[\w ,()'+-]{0,99}")

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
    pixels = np.empty(seal.shape, np.uint8)
    for row, path in enumerate(_paths(card)):
        pixels[row] = _read_png(folder / path, card)
    seal.check(pixels)
    images = from_uint8(pixels, mean=card.mean, std=card.std)
    return StoredSet(images=images, labels=labels_of(card), card=card)


def folder_names(class_names: tuple[str, ...]) -> list[str]:
    """Return a folder's name for each class, such that sorting them keeps the order of labels.

    Class names as they are, where that is so and every file system takes them; else each after its
    number, without what may not stand in a name.
    """
    is_plain = all(map(_PLAIN.fullmatch, class_names))
    are_different = len({name.casefold() for name in class_names}) == len(class_names)
    if is_plain and are_different and sorted(class_names) == list(class_names):
        return list(class_names)
    digits = len(str(len(class_names) - 1))
    plain = [re.sub(r"[^\w ,()'+-]", "_", name)[:99] for name in class_names]
    return [f"{label:0{digits}d}-{name}" for label, name in enumerate(plain)]


def _paths(card: Card) -> list[str]:
    folders = folder_names(card.class_names)
    labels = labels_of(card)
    return [
        f"{folders[label]}/{name}.png" for label, name in zip(labels, names_of(card), strict=True)
    ]


def _read_png(place: Location, card: Card) -> npt.NDArray[np.uint8]:
    """Return one image as (C, H, W)."""
    channels, height, width = card.image_shape
    with Image.open(io.BytesIO(place.read_bytes()), formats=["PNG"]) as picture:
        expected = (width, height), "L" if channels == 1 else "RGB"
        if (found := (picture.size, picture.mode)) != expected:
            raise CondensedSetError(f"{place}: expected {expected}, found {found}; {REMEDY}")
        pixels = np.asarray(picture)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)
