"""What a page says, as plain values: headings, tables, plots, galleries; no HTML and no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A mean accuracy with its deviation, to be drawn on a scale from 0 to 1."""

    mean: float
    std: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what stands in it.
        is_number: whether it is set like one.
        is_best: whether it stands out.
        note: small, below the text.
        spread: drawn instead of the text.
        columns: how many it goes over.
    """

    text: str = ""
    is_number: bool = False
    is_best: bool = False
    note: str = ""
    spread: Spread | None = None
    columns: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows under headings; the first cell of a row is its own heading."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A drawing.

    Attributes:
        svg: made by `plots`, which alone may put markup on a page.
        caption: what it shows.
        alt: what can be seen in it.
    """

    kind: ClassVar[str] = "plot"
    svg: str
    caption: str
    alt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plots:
    """Plots beside each other, where there is room."""

    kind: ClassVar[str] = "plots"
    plots: Sequence[Plot]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Names and what they are.

    Attributes:
        facts: (name, value).
        summary: what to click on to see them; empty if they are always to be seen.
    """

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]
    summary: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """Lines to copy.

    Attributes:
        caption: what they do.
        text: the lines.
    """

    kind: ClassVar[str] = "code"
    caption: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An image at pixel scale.

    Attributes:
        source: a data URI.
        alt: what it is.
    """

    source: str
    alt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A condensed image beside real ones."""

    condensed: Picture
    real: Picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Images of one set in a class.

    Attributes:
        title: which they are.
        pictures: the images.
        pairs: the images beside real ones.
    """

    title: str
    pictures: Sequence[Picture] = ()
    pairs: Sequence[Pair] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """What there is to see of a class."""

    name: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Images to click through class by class.

    Attributes:
        panels: one for each class.
        size: (width, height) of an image in pixels.
        zoom: how much an image is enlarged at first.
        is_smooth: whether real images are smaller on the page than they are, and then smoothed.
        shows_all: whether all classes are to be seen at first.
    """

    kind: ClassVar[str] = "gallery"
    panels: Sequence[Panel]
    size: tuple[int, int]
    zoom: int
    is_smooth: bool
    shows_all: bool


Part = Table | Text | Plots | Facts | Code | Gallery


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the page under a heading.

    Attributes:
        name: short, without spaces; links lead to it.
        heading: what stands above it.
        parts: what is in it.
    """

    name: str
    heading: str
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A whole page.

    Attributes:
        what: run, search or comparison.
        title: its heading.
        lead: one or two sentences of what there is to know.
        figures: (value, what it is), the numbers that matter most.
        sections: of the page, in their order.
        notices: what is missing, and why.
        is_complete: whether what it shows has come to its end.
    """

    what: str
    title: str
    lead: str
    figures: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    notices: Sequence[str] = ()
    is_complete: bool = True


def row(heading: str, *cells: Cell | str) -> tuple[Cell, ...]:
    """A row of a table: its heading, then cells; texts are set like numbers."""
    first = Cell(text=heading)
    rest = (Cell(text=c, is_number=True) if isinstance(c, str) else c for c in cells)
    return (first, *rest)
