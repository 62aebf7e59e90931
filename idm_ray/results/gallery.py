"""The picture of a condensed set: every class with its name and its images."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from idm_ray.errors import UserError
from idm_ray.local_disk import atomic_write
from idm_ray.results.gallery_layout import MARGIN_PX, TITLE_PX, Layout, choose_layout
from idm_ray.results.pictures import to_picture, to_uint8

_BACKGROUND = (250, 250, 250)
_TITLE_COLOR = (30, 30, 30)
_NAME_COLOR = (70, 70, 70)
_TITLE_FONT_PX = 18
_NAME_FONT_PX = 13


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
    """Writes the gallery as PNG, atomically.

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
        OSError: The file cannot be written.
    """
    picture = draw_gallery(
        images=images, labels=labels, class_names=class_names, mean=mean, std=std, title=title
    )
    with atomic_write(path) as file:
        picture.save(file, format="PNG")


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
    if not len(images):
        raise UserError("expected images for the gallery, found none; condense a class at least")
    font = ImageFont.load_default(_NAME_FONT_PX)
    members = [np.flatnonzero(labels == label) for label in range(len(class_names))]
    ipc = max(map(len, members))
    layout = choose_layout(
        num_classes=len(class_names),
        ipc=ipc,
        image_size=(images.shape[3], images.shape[2]),
        longest_name_px=max(_text_px(name, font) for name in class_names),
    )
    if layout.num_shown < ipc:
        title += f" (first {layout.num_shown} of {ipc} images per class)"
    picture = _empty_picture(layout, title)
    draw = ImageDraw.Draw(picture)
    for index, (name, rows) in enumerate(zip(class_names, members, strict=True)):
        _draw_name(draw, layout, index, name, font)
        shown = to_uint8(images[rows[: layout.num_shown]], mean=mean, std=std)
        for rank, image in enumerate(shown):
            picture.paste(_drawn(image, layout.tile), layout.tile_corner(index, rank))
    return picture


def _empty_picture(layout: Layout, title: str) -> Image.Image:
    """A background with the title on it, wide enough for both."""
    font = ImageFont.load_default(_TITLE_FONT_PX)
    width, height = layout.size
    picture = Image.new(
        "RGB", (max(width, _text_px(title, font) + 2 * MARGIN_PX), height), _BACKGROUND
    )
    ImageDraw.Draw(picture).text(
        (MARGIN_PX, MARGIN_PX + (TITLE_PX - MARGIN_PX) // 2),
        title,
        fill=_TITLE_COLOR,
        font=font,
        anchor="lm",
    )
    return picture


def _draw_name(
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    index: int,
    name: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Writes a class's name in the middle below its image or of the left side of its block."""
    left, top = layout.cell_corner(index)
    width, height = layout.cell
    if layout.is_sheet:
        text = _shortened(name, width, font)
        draw.text((left + width // 2, top + height), text, _NAME_COLOR, font, anchor="md")
    else:
        text = _shortened(name, layout.name_px, font)
        draw.text((left, top + height // 2), text, _NAME_COLOR, font, anchor="lm")


def _drawn(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """One (C, H, W) image as it is pasted: sharp pixels when enlarged, smooth when reduced."""
    picture = to_picture(image)
    is_enlarged = size[0] >= picture.width
    return picture.resize(
        size, Image.Resampling.NEAREST if is_enlarged else Image.Resampling.LANCZOS
    )


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Returns `text`, cut with dots where it is wider than `width` pixels."""
    if _text_px(text, font) <= width:
        return text
    length = len(text)
    while length > 1 and _text_px(text[:length] + "...", font) > width:
        length -= 1
    return text[:length].rstrip() + "..."


def _text_px(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    """Width of a text as drawn."""
    return int(np.ceil(font.getlength(text)))
