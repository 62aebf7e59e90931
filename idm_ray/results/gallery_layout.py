"""Where the images of a gallery go: sizes and positions, no drawing.

A gallery is a grid of cells, one for each class: its name and a block of its images. With one
image per class the name stands below it, as on a contact sheet; else to the left.
"""

import bisect
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Final

MAX_SIDE_PX: Final = 4000
MARGIN_PX: Final = 16
TITLE_PX: Final = 36
NAME_PX: Final = 20
TILE_GAP_PX: Final = 2
CELL_GAP_PX: Final = 10
_MAX_NAME_BELOW_PX: Final = 96
# Left of small images a long name would take more room than they do.
_MAX_NAME_LEFT_PX: Final = 160
_MIN_NAME_LEFT_PX: Final = 80
_MAX_NAME_LINES: Final = 3
# What an image is enlarged or reduced to: about _GOOD_TILE_PX, by at most _MAX_SCALE times, and
# not below _MIN_TILE_PX, where less is shown instead.
_GOOD_TILE_PX: Final = 100
_MAX_SCALE: Final = 8
_MIN_TILE_PX: Final = 28
# On a page, images are enlarged to this at least.
_PAGE_TILE_PX: Final = 64
_SHRINK: Final = 0.85
_GOOD_ASPECT: Final = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Sizes in pixels of a gallery."""

    tile: tuple[int, int]
    """(width, height) of a drawn image."""
    num_shown: int
    """Images drawn per class."""
    per_line: int
    """Images next to each other in a class's block."""
    num_classes: int
    """Cells of the grid."""
    columns: int
    """Cells next to each other."""
    name_px: int
    """Width kept for a name."""
    name_lines: int = 1
    """In which a name may be broken."""

    @property
    def is_sheet(self) -> bool:
        """Whether names stand below the images."""
        return self.num_shown == 1

    @property
    def cell(self) -> tuple[int, int]:
        """(width, height) of a class's cell, without the gap to the next."""
        lines = math.ceil(self.num_shown / self.per_line)
        width = self.per_line * (self.tile[0] + TILE_GAP_PX) - TILE_GAP_PX
        height = lines * (self.tile[1] + TILE_GAP_PX) - TILE_GAP_PX
        if self.is_sheet:
            return max(width, self.name_px), height + self.name_lines * NAME_PX
        return self.name_px + CELL_GAP_PX + width, max(height, NAME_PX)

    @property
    def row_gap(self) -> int:
        """Pixels between cells one above the other: blocks of one line are lines of a table."""
        return TILE_GAP_PX if not self.is_sheet and self.per_line == self.num_shown else CELL_GAP_PX

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole picture."""
        rows = math.ceil(self.num_classes / self.columns)
        width, height = self.cell
        return (
            2 * MARGIN_PX + self.columns * (width + CELL_GAP_PX) - CELL_GAP_PX,
            2 * MARGIN_PX + TITLE_PX + rows * (height + self.row_gap) - self.row_gap,
        )

    def cell_corner(self, index: int) -> tuple[int, int]:
        """Returns the left upper corner of a class's cell; classes run line by line."""
        row, column = divmod(index, self.columns)
        width, height = self.cell
        return (
            MARGIN_PX + column * (width + CELL_GAP_PX),
            MARGIN_PX + TITLE_PX + row * (height + self.row_gap),
        )

    def tile_corner(self, index: int, rank: int) -> tuple[int, int]:
        """Returns the left upper corner of a class's image number `rank`."""
        left, top = self.cell_corner(index)
        line, place = divmod(rank, self.per_line)
        # A narrow image stands in the middle above its name; a block stands right of its name.
        left += (self.cell[0] - self.tile[0]) // 2 if self.is_sheet else self.name_px + CELL_GAP_PX
        return (
            left + place * (self.tile[0] + TILE_GAP_PX),
            top + line * (self.tile[1] + TILE_GAP_PX),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a layout depends on."""

    num_classes: int
    """Classes, each with its name."""
    ipc: int
    """Images per class."""
    image_size: tuple[int, int]
    """(width, height) of an image."""
    longest_name_px: int
    """Width of the longest name as drawn."""


def choose_layout(facts: Facts) -> Layout:
    """Chooses the layout with the largest images that fits, and of those the best shape.

    Where not even small images fit, fewer per class are shown.
    """
    num_shown = facts.ipc
    while True:
        for tile in _tile_sizes(facts.image_size):
            layout = _best_shape(facts, facts.num_classes, num_shown, tile)
            if _fits(layout):
                return layout
        if num_shown == 1:
            return layout  # thousands of classes: rather a large picture than none
        num_shown //= 2


def lacks_something(layout: Layout, facts: Facts) -> bool:
    """Whether a picture has not all images in their own size at least."""
    return layout.num_shown < facts.ipc or layout.tile[0] < facts.image_size[0]


def choose_page(facts: Facts) -> Layout:
    """Chooses how a page looks that is as full as possible, with all images of its classes.

    Images are drawn in their own size, small ones in a multiple of it. Only if a single class does
    not fit, fewer of its images are shown, and all classes take several pages.
    """
    factor = math.ceil(_PAGE_TILE_PX / max(facts.image_size))
    tile = (factor * facts.image_size[0], factor * facts.image_size[1])

    def shape(num_classes: int, num_shown: int) -> Layout:
        return _best_shape(facts, num_classes, num_shown, tile)

    num_shown = _largest(facts.ipc, lambda number: _fits(shape(1, number)))
    num_classes = _largest(facts.num_classes, lambda number: _fits(shape(number, num_shown)))
    return shape(num_classes, num_shown)


def _fits(layout: Layout) -> bool:
    return max(layout.size) <= MAX_SIDE_PX


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 1 on that fits, where all smaller ones do; 1 if none does."""
    return max(1, bisect.bisect_left(range(1, most + 1), True, key=lambda number: not fits(number)))


def _tile_sizes(image_size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields sizes to draw an image in, the largest first: multiples, then reductions."""
    width, height = image_size
    scale = max(1, min(_MAX_SCALE, round(_GOOD_TILE_PX / max(width, height))))
    for factor in range(scale, 0, -1):
        if factor * max(width, height) >= _MIN_TILE_PX:
            yield factor * width, factor * height
    shrink = _SHRINK
    while shrink * max(width, height) >= _MIN_TILE_PX:
        yield max(1, round(shrink * width)), max(1, round(shrink * height))
        shrink *= _SHRINK


def _best_shape(facts: Facts, num_classes: int, num_shown: int, tile: tuple[int, int]) -> Layout:
    """Returns the arrangement that fits and is nearest to a good shape, or the least oversized."""
    limit = max(_MIN_NAME_LEFT_PX, min(_MAX_NAME_LEFT_PX, 5 * tile[0] // 3))
    name_lines = max(1, min(_MAX_NAME_LINES, tile[1] // NAME_PX))
    if num_shown == 1:
        limit = _MAX_NAME_BELOW_PX
        name_lines = 1 + (facts.longest_name_px > max(limit, tile[0]))
    layouts = (
        Layout(
            tile=tile,
            num_shown=num_shown,
            per_line=math.ceil(num_shown / lines),
            num_classes=num_classes,
            columns=columns,
            name_px=min(facts.longest_name_px, limit),
            name_lines=name_lines,
        )
        for lines in range(1, math.isqrt(num_shown) + 1)
        for columns in range(1, num_classes + 1)
    )
    return min(layouts, key=_ugliness)


def _ugliness(layout: Layout) -> tuple[float, float]:
    """Pixels beyond the limit; then distance from a good aspect, empty cells and broken rows."""
    width, height = layout.size
    cells = layout.columns * math.ceil(layout.num_classes / layout.columns)
    lines = math.ceil(layout.num_shown / layout.per_line)
    return (
        max(0, max(width, height) - MAX_SIDE_PX),
        abs(math.log(width / height / _GOOD_ASPECT))
        + (1 - layout.num_classes / cells)
        + 0.25 * (lines - 1),
    )
