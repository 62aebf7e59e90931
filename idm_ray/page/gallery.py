"""Galleries of a page: the images of condensed sets by class, within a budget of bytes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from idm_ray.formats.stored import StoredSet
from idm_ray.page.content import Block, Gallery, Pair, Panel, Picture
from idm_ray.page.neighbours import Neighbours
from idm_ray.page.texts import plural
from idm_ray.results.pictures import encode_png, to_uint8

# Pixels as bytes, of all galleries of a page: 500 images of 32 pixels are a tenth of it. As PNG and
# in base64 they become a third more.
_BUDGET_BYTES: Final = 16_000_000
# What small images are enlarged to, at least: on a phone two pairs stand side by side.
_GOOD_TILE_PX: Final = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A set in a gallery.

    Attributes:
        title: what it is called there; may be empty where it is the only one.
        stored: its images.
        neighbours: real images for the first ones of each class, by label.
    """

    title: str
    stored: StoredSet
    neighbours: Mapping[int, Neighbours]


def make_gallery(sets: Sequence[Shown]) -> tuple[Gallery, tuple[str, ...]]:
    """Put sets of the same classes side by side, class by class.

    Args:
        sets: at least one. Classes that only some of them have are shown with those.

    Returns:
        The gallery, and what is left out of it, in words.
    """
    names = list(dict.fromkeys(name for one in sets for name in one.stored.card.class_names))
    budget = _BUDGET_BYTES // len(sets)
    notices = []
    blocks: dict[str, list[Block]] = {name: [] for name in names}
    for one in sets:
        num_classes, num_shown = _that_fit(one.stored, budget)
        card = one.stored.card
        if (num_classes, num_shown) != (len(card.class_names), card.ipc):
            notices.append(_left_out(one, num_classes, num_shown))
        for label, name in enumerate(card.class_names[:num_classes]):
            blocks[name] += _blocks(one, label, num_shown)
    card = sets[0].stored.card
    height, width = card.image_shape[1:]
    # Whole pixels of real images that stand for tiles are needed where there are any.
    partition = max(one.stored.card.partition if one.neighbours else 1 for one in sets)
    zoom = choose_zoom(width, partition)
    gallery = Gallery(
        panels=[Panel(name=name, blocks=found) for name, found in blocks.items() if found],
        size=(width, height),
        zoom=zoom,
        is_smooth=zoom < partition,
        shows_all=len(sets) == card.ipc == 1,
    )
    return gallery, tuple(notices)


def choose_zoom(width: int, partition: int) -> int:
    """How much to enlarge images: by a whole number, to about the size of a thumb.

    By a multiple of the tiles, where images are small, so that the pixels of real images that stand
    for tiles are whole, too.
    """
    zoom = -(-_GOOD_TILE_PX // width)
    return -(-zoom // partition) * partition if zoom > 1 else zoom


def _that_fit(stored: StoredSet, budget: int) -> tuple[int, int]:
    """Classes, and images of each, that take no more bytes than there are; at least one."""
    card = stored.card
    num_classes = len(card.class_names)
    num_images = max(1, budget // card.num_pixels)
    if num_images < num_classes:
        return num_images, 1
    return num_classes, min(card.ipc, num_images // num_classes)


def _left_out(one: Shown, num_classes: int, num_shown: int) -> str:
    card = one.stored.card
    which = f" of {one.title}" * bool(one.title)
    classes = f" in the first {num_classes} of {len(card.class_names)} classes"
    return (
        f"So that the page stays small it shows the first {num_shown} of "
        f"{plural(card.ipc, 'image')} per class{which}"
        f"{classes * (num_classes < len(card.class_names))}. The file holds all of them."
    )


def _blocks(one: Shown, label: int, num_shown: int) -> list[Block]:
    """A block of all images of a class, and one of those that stand beside real ones."""
    card = one.stored.card
    first = label * card.ipc
    images = to_uint8(one.stored.images[first : first + num_shown], mean=card.mean, std=card.std)
    name = card.class_names[label]
    of_set = f", {one.title}" * bool(one.title)
    pictures = [
        Picture(source=data_uri(image), alt=f"condensed {name}, image {rank}{of_set}")
        for rank, image in enumerate(images, 1)
    ]
    found = one.neighbours.get(label)
    pairs = _pairs(pictures, found, name) if found else []
    title = one.title or f"{plural(card.ipc, 'condensed image')}"
    beside = _beside(card.partition, len(pairs), card.ipc)
    if pairs and card.ipc == 1:
        return [Block(title=beside, pairs=pairs)]
    blocks = [Block(title=title, pictures=pictures)]
    return [*blocks, Block(title=beside, pairs=pairs)] if pairs else blocks


def _beside(partition: int, num_pairs: int, ipc: int) -> str:
    which = f"The first {num_pairs}, each" if num_pairs < ipc else "Each"
    if partition > 1:
        return f"{which} beside the training images that its tiles are nearest to"
    return f"{which} beside the training image that it is nearest to"


def _pairs(pictures: Sequence[Picture], found: Neighbours, name: str) -> list[Pair]:
    pairs = []
    for picture, mosaic, rows in zip(pictures, found.mosaics, found.rows, strict=False):
        numbers = ", ".join(str(row) for row in rows)
        images = "images" if len(rows) > 1 else "image"
        alt = f"nearest training {images} of {name}: number {numbers}"
        pairs.append(Pair(condensed=picture, real=Picture(source=data_uri(mosaic), alt=alt)))
    return pairs


def data_uri(image: npt.NDArray[np.uint8]) -> str:
    """An image (C, H, W) as PNG in a data URI; C is 1 or 3."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"
