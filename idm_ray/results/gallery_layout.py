"""Where the images of a gallery go: sizes and positions, no drawing.

A gallery is a grid of cells, one for each class: its name and a block of its images. With one
image per class the name stands below it, as on a contact sheet; else to the left.
"""

import dataclasses
import math
from collections.abc import Iterator
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
# What an image is enlarged or reduced to: about _GOOD_TILE_PX, by at most _MAX_SCALE times, and
# not below _MIN_TILE_PX, where less is shown instead.
_GOOD_TILE_PX: Final = 100
_MAX_SCALE: Final = 8
_MIN_TILE_PX: Final = 28
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
            return max(width, self.name_px), height + NAME_PX
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


def choose_layout(
    *, num_classes: int, ipc: int, image_size: tuple[int, int], longest_name_px: int
) -> Layout:
    """Chooses the layout with the largest images that fits, and of those the best shape.

    Args:
        num_classes: Classes, each with its name.
        ipc: Images per class; fewer are shown where not even small ones fit.
        image_size: (width, height) of an image.
        longest_name_px: Width of the longest name as drawn.
    """
    num_shown = ipc
    while True:
        for tile in _tile_sizes(image_size):
            layout = _best_shape(num_classes, num_shown, tile, longest_name_px)
            if max(layout.size) <= MAX_SIDE_PX:
                return layout
        if num_shown == 1:
            return layout  # thousands of classes: rather a large picture than none
        num_shown //= 2


def _tile_sizes(image_size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yields sizes to draw an image in, the largest first: multiples, then reductions."""
    width, height = image_size
    scale = max(1, min(_MAX_SCALE, round(_GOOD_TILE_PX / max(width, height))))
    for factor in range(scale, 0, -1):
        yield factor * width, factor * height
    shrink = _SHRINK
    while shrink * max(width, height) >= _MIN_TILE_PX:
        yield max(1, round(shrink * width)), max(1, round(shrink * height))
        shrink *= _SHRINK


def _best_shape(
    num_classes: int, num_shown: int, tile: tuple[int, int], longest_name_px: int
) -> Layout:
    """Returns the arrangement that fits and is nearest to a good shape, or the least oversized."""
    limit = max(_MIN_NAME_LEFT_PX, min(_MAX_NAME_LEFT_PX, 5 * tile[0] // 3))
    if num_shown == 1:
        limit = _MAX_NAME_BELOW_PX
    layouts = (
        Layout(
            tile=tile,
            num_shown=num_shown,
            per_line=math.ceil(num_shown / lines),
            num_classes=num_classes,
            columns=columns,
            name_px=min(longest_name_px, limit),
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
