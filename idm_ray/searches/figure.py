"""The figure of a search in the paper's form: accuracy over what was varied, as PNG and SVG."""

import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes

from idm_ray.results.figures import new_figure, save_figure
from idm_ray.searches.drawing import (
    draw_bars,
    draw_line,
    draw_nothing,
    draw_trials,
    fit_below,
    values_of,
)
from idm_ray.searches.search import METRIC, Search
from idm_ray.searches.trials import Row, TrialResult

# In inches; lying bars take more.
_WIDTH, _HEIGHT = 6.4, 4.4
_AROUND_BARS, _BAR_HEIGHT, _LETTER_WIDTH = 1.6, 0.4, 0.07
_TITLE_LETTERS: Final = 64

SUFFIXES: Final = (".png", ".svg")


def write_grid_figure(
    stem: str | os.PathLike[str],
    search: Search,
    rows: Sequence[Row],
    *,
    title: str,
    split: str,
    own: str | None = None,
) -> tuple[Path, ...]:
    """Draws the means of a grid with their deviations, over values or as bars.

    Args:
        stem: Path of the files to create or replace, without their suffixes.
        search: Whose rows they are.
        rows: In the order of the points; those without a mean are left out.
        title: What was run.
        split: Images that the networks were tested on, such as "validation".
        own: Label of the point that the run's own settings give, which is marked as the default.

    Returns:
        The files.
    """
    rows = [row for row in rows if row.mean is not None]

    def draw(axes: Axes) -> None:
        what = f"{split} {search.metric}"
        values = values_of(search, rows)
        if not rows:
            draw_nothing(axes)
        elif values is None:
            draw_bars(axes, search.axis, rows, own)
            (axes.set_ylabel if fit_below(rows) else axes.set_xlabel)(what)
        else:
            draw_line(axes, search.axis, rows, values, own)
            axes.set_ylabel(what)

    size = _WIDTH, _HEIGHT
    if values_of(search, rows) is None and not fit_below(rows):
        longest = max(len(row.label) for row in rows)
        size = _WIDTH + _LETTER_WIDTH * longest, _AROUND_BARS + _BAR_HEIGHT * len(rows)
    return _write(stem, title, draw, size)


def write_trials_figure(
    stem: str | os.PathLike[str], results: Sequence[TrialResult], *, title: str, split: str
) -> tuple[Path, ...]:
    """Draws trials in their order, with the best of those that came to their end so far.

    Args:
        stem: Path of the files to create or replace, without their suffixes.
        results: In the order in which they began.
        title: What was run.
        split: Images that the networks were tested on, such as "validation".

    Returns:
        The files.
    """
    points = [
        (number, 100 * sum(result.accuracies) / len(result.accuracies), result.status)
        for number, result in enumerate(results, 1)
        if result.accuracies
    ]

    def draw(axes: Axes) -> None:
        if not points:
            draw_nothing(axes)
            return
        draw_trials(axes, points)
        axes.set_ylabel(f"{split} {METRIC}")

    return _write(stem, title, draw)


def _write(
    stem: str | os.PathLike[str],
    title: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float] = (_WIDTH, _HEIGHT),
) -> tuple[Path, ...]:
    files = tuple(Path(f"{os.fspath(stem)}{suffix}") for suffix in SUFFIXES)
    with new_figure(*size) as figure:
        axes = figure.add_subplot()
        draw(axes)
        title = textwrap.fill(title, _TITLE_LETTERS)
        axes.set_title(title, fontsize="medium", loc="left", parse_math=False)
        if axes.get_legend_handles_labels()[0]:
            # Below the axes, where it hides no data.
            figure.legend(loc="outside lower center", ncols=3)
        for path in files:
            save_figure(figure, path)
    return files
