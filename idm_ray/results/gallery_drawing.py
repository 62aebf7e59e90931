"""Draws classes with their names and images where a layout says; writes no files."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from idm_ray.results.gallery_layout import MARGIN_PX, NAME_PX, TITLE_PX, Facts, Layout
from idm_ray.results.pictures import to_picture, to_uint8

_BACKGROUND = (250, 250, 250)
_TITLE_COLOR = (30, 30, 30)
_NAME_COLOR = (70, 70, 70)
_TITLE_FONT_PX = 18
_NAME_FONT_PX = 13
_LEADING_PX = 2
_ABOVE_NAME_PX = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """The images of a gallery, and what they are.

    Attributes:
        images: (N, C, H, W), normalised; C is 1 or 3.
        members: for each class, the places of its images.
        names: of the classes.
        mean: per channel.
        std: per channel.
    """

    images: npt.NDArray[np.float32]
    members: Sequence[npt.NDArray[np.intp]]
    names: Sequence[str]
    mean: Sequence[float]
    std: Sequence[float]

    @property
    def ipc(self) -> int:
        """Images of the largest class."""
        return max(map(len, self.members))

    @property
    def facts(self) -> Facts:
        """What a layout depends on."""
        return Facts(
            num_classes=len(self.names),
            ipc=self.ipc,
            image_size=(self.images.shape[3], self.images.shape[2]),
            longest_name_px=max(_text_px(name, _font(_NAME_FONT_PX)) for name in self.names),
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Some images of a class: those from `start` on, as many as the layout has room for."""

    label: int
    start: int = 0


def draw(images: ImageSet, layout: Layout, blocks: Sequence[Block], *, title: str) -> Image.Image:
    """Draws blocks one after the other into the cells of a layout, as an RGB picture.

    Small images are enlarged without smoothing, large ones reduced with it.
    """
    picture = _empty_picture(layout, title)
    canvas = ImageDraw.Draw(picture)
    for index, block in enumerate(blocks):
        _draw_name(canvas, layout, index, images.names[block.label])
        rows = images.members[block.label][block.start : block.start + layout.num_shown]
        shown = to_uint8(images.images[rows], mean=images.mean, std=images.std)
        for rank, image in enumerate(shown):
            picture.paste(_drawn(image, layout.tile), layout.tile_corner(index, rank))
    return picture


def _empty_picture(layout: Layout, title: str) -> Image.Image:
    """A background with the title on it, wide enough for both."""
    font = _font(_TITLE_FONT_PX)
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


def _draw_name(canvas: ImageDraw.ImageDraw, layout: Layout, index: int, name: str) -> None:
    """Writes a class's name in the middle below its image or of the left side of its block."""
    font = _font(_NAME_FONT_PX)
    left, top = layout.cell_corner(index)
    width, height = layout.cell
    if layout.is_sheet:
        text = _wrapped(name, width, layout.name_lines, font)
        below = top + height - layout.name_lines * NAME_PX
        place, anchor, align = (left + width // 2, below + _ABOVE_NAME_PX), "ma", "center"
    else:
        text = _wrapped(name, layout.name_px, layout.name_lines, font)
        place, anchor, align = (left, top + height // 2), "lm", "left"
    canvas.text(place, text, _NAME_COLOR, font, anchor=anchor, align=align, spacing=_LEADING_PX)


def _drawn(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """One (C, H, W) image as it is pasted: sharp pixels when enlarged, smooth when reduced."""
    picture = to_picture(image)
    is_enlarged = size[0] >= picture.width
    return picture.resize(
        size, Image.Resampling.NEAREST if is_enlarged else Image.Resampling.LANCZOS
    )


def _wrapped(text: str, width: int, num_lines: int, font: Font) -> str:
    """Returns `text` in at most so many lines, broken between words; each is cut if too wide."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if len(lines) == num_lines or _text_px(longer, font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(_shortened(line, width, font) for line in lines)


def _shortened(text: str, width: int, font: Font) -> str:
    """Returns `text`, cut with dots where it is wider than `width` pixels."""
    if _text_px(text, font) <= width:
        return text
    length = len(text)
    while length > 1 and _text_px(text[:length] + "...", font) > width:
        length -= 1
    return text[:length].rstrip() + "..."


@functools.cache
def _font(size_px: int) -> Font:
    return ImageFont.load_default(size_px)


def _text_px(text: str, font: Font) -> int:
    """Width of a text as drawn."""
    return int(np.ceil(font.getlength(text)))
