"""The picture of a condensed set, every class with its name and its images, and its pages."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from idm_ray.errors import UserError
from idm_ray.local_disk import abandoned_files, atomic_write
from idm_ray.results.gallery_drawing import Block, ImageSet, draw
from idm_ray.results.gallery_layout import choose_layout, choose_page, lacks_something

PAGES: Final = "gallery"
"""The folder of the pages, beside the gallery."""
# Pages are many and large: of PNG's levels this one takes half the time, and a few bytes more.
_PAGE_COMPRESSION: Final = 3


def write_gallery(
    path: str | os.PathLike[str],
    *,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    title: str,
) -> None:
    """Writes the gallery as PNG, atomically, and pages beside it where it cannot show everything.

    The pages, gallery/page-001.png and so on, show all images in their own size at least. Pages of
    an earlier gallery are removed.

    Args:
        path: The file to create or replace.
        images: (N, C, H, W), normalised; C is 1 or 3.
        labels: (N,), in any order.
        class_names: Names in the order of the labels 0, 1, ...
        mean: Per channel.
        std: Per channel.
        title: Stands above the images.

    Raises:
        UserError: Neither one channel nor three, or no image at all.
        OSError: A file cannot be written.
    """
    shown = _image_set(images, labels, class_names, mean, std)
    # First, as the gallery names them.
    _write_pages(Path(path).parent / PAGES, shown, title)
    with atomic_write(path) as file:
        _draw_overview(shown, title).save(file, format="PNG")


def draw_gallery(
    *,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    title: str,
) -> Image.Image:
    """Draws the gallery; the arguments are those of `write_gallery`.

    Returns:
        An RGB picture, up to thousands of classes at most 4000 pixels per side. Small images are
        enlarged without smoothing; where too many do not fit, the title says how many are shown.
    """
    return _draw_overview(_image_set(images, labels, class_names, mean, std), title)


def _image_set(
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
) -> ImageSet:
    if not len(images):
        raise UserError("expected images for the gallery, found none; condense a class at least")
    members = [np.flatnonzero(labels == label) for label in range(len(names))]
    return ImageSet(images=images, members=members, names=names, mean=mean, std=std)


def _draw_overview(shown: ImageSet, title: str) -> Image.Image:
    facts = shown.facts
    layout = choose_layout(facts)
    if layout.num_shown < facts.ipc:
        title += f" (first {layout.num_shown} of {facts.ipc} images per class)"
    if lacks_something(layout, facts):
        title += f", all images: {PAGES}/"
    return draw(shown, layout, [Block(label) for label in range(facts.num_classes)], title=title)


def _write_pages(folder: Path, shown: ImageSet, title: str) -> None:
    """Write pages if there is need of them, one after the other, and remove all others."""
    facts = shown.facts
    pages: list[Sequence[Block]] = []
    if lacks_something(choose_layout(facts), facts):
        layout = choose_page(facts)
        pages = _cut(shown, layout.num_shown, layout.num_classes)
        folder.mkdir(exist_ok=True)
    _remove_pages(folder, from_number=len(pages) + 1)
    for number, blocks in enumerate(pages, 1):
        # The last page is as wide as the others, and only as high as it must be.
        page = dataclasses.replace(layout, num_classes=len(blocks))
        picture = draw(shown, page, blocks, title=f"{title}, page {number} of {len(pages)}")
        with atomic_write(folder / _page_name(number)) as file:
            picture.save(file, format="PNG", compress_level=_PAGE_COMPRESSION)


def _cut(shown: ImageSet, num_shown: int, per_page: int) -> list[Sequence[Block]]:
    """Blocks of all images, by page."""
    blocks = [
        Block(label, start)
        for label, rows in enumerate(shown.members)
        for start in range(0, max(1, len(rows)), num_shown)
    ]
    return [blocks[first : first + per_page] for first in range(0, len(blocks), per_page)]


def _page_name(number: int) -> str:
    return f"page-{number:03d}.png"


def _remove_pages(folder: Path, *, from_number: int) -> None:
    """Remove pages that an earlier gallery had more, and what was left half written."""
    for file, _ in abandoned_files(folder):
        file.unlink(missing_ok=True)
    for path in folder.glob("page-*.png"):
        number = path.stem.removeprefix("page-")
        if number.isdigit() and int(number) >= from_number:
            path.unlink(missing_ok=True)
    if from_number == 1:
        with contextlib.suppress(OSError):  # there is none, or somebody else's file is in it
            folder.rmdir()
