"""The figures of an analysis: ratios over k, and features in the plane, a panel for each class.

Importing this module imports matplotlib, which takes a third of a second.
"""

import os
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from idm_ray.analysis.projection import Points, Projection
from idm_ray.results.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from idm_ray.analysis.analyse import Analysis

SUFFIXES: Final = (".png", ".svg")

# In inches; a line of the legend, which grows with the sets, takes more.
_WIDTH, _HEIGHT, _LINE = 6.4, 4.4, 0.25
_TITLE_LETTERS: Final = 64
# Colours come again with other marks and dashes, which tell the sets apart without colours, too.
_COLORS: Final = (BLUE, ORANGE, GREY, "black")
_MARKS: Final = ("o", "s", "^", "D", "v")
_DASHES: Final = ("-", "--", "-.")

# Of the panels: how many there are at most, and side by side; inches of one, and around all.
_MOST, _ABREAST = 20, 5
_PANEL, _AROUND = 2.2, 1.3
_NARROWEST: Final = 6.0
_LETTERS_PER_INCH: Final = 9
# How much of the plane is left free around the points.
_MARGIN: Final = 0.04
_REAL: Final[Any] = {"s": 4, "linewidths": 0, "rasterized": True}
_SYNTHETIC: Final[Any] = {"s": 26, "linewidths": 0.6, "edgecolors": "white"}


def write_consistency_figure(stem: str | os.PathLike[str], found: "Analysis") -> None:
    """Draws the consistency ratio of each set over k (the paper's Fig. 4).

    Args:
        stem: Path of the files to create or replace, without their suffixes.
        found: What was measured.
    """
    with new_figure(_WIDTH, _HEIGHT + _LINE * len(found.sets)) as figure:
        axes = figure.add_subplot()
        for number, (name, one) in enumerate(found.sets.items()):
            axes.plot(
                found.k,
                [100 * ratio for ratio in one.ratios],
                color=_COLORS[number % len(_COLORS)],
                marker=_MARKS[number % len(_MARKS)],
                linestyle=_DASHES[number // len(_COLORS) % len(_DASHES)],
                label=name,
                clip_on=False,
                zorder=3,
            )
        axes.axhline(100 * found.chance, color=GREY, linestyle=":", label="chance")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("consistency ratio, %")
        axes.set_xlabel("k, nearest real images of a synthetic one")
        if len(found.k) > 1:
            axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(list(found.k)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axes.grid(axis="y", color=LIGHT)
        title = textwrap.fill(f"{found.data_name}, features of {found.space}", _TITLE_LETTERS)
        axes.set_title(title, fontsize="medium", loc="left", parse_math=False)
        # Below the axes, where it hides no data.
        figure.legend(loc="outside lower center", ncols=2)
        _save(figure, stem)


def write_features_figure(
    stem: str | os.PathLike[str],
    projection: Projection,
    place: int,
    class_names: Sequence[str],
    *,
    title: str,
) -> None:
    """Draws a set among real images, a panel for each class, up to twenty.

    All panels, and the figures of all sets of a projection, show the same part of the same plane.

    Args:
        stem: Path of the files to create or replace, without their suffixes.
        projection: Of real images and sets.
        place: Of the set in the projection.
        class_names: In the order of their labels.
        title: Says which set it is.
    """
    shown = class_names[:_MOST]
    some = f", {len(shown)} of {len(class_names)} classes" * (len(shown) < len(class_names))
    first, second = (100 * share for share in projection.variance)
    across = min(_ABREAST, len(shown))
    down = -(-len(shown) // across)
    width = max(_NARROWEST, across * _PANEL)
    with new_figure(width, _AROUND + down * _PANEL) as figure:
        panels = figure.subplots(down, across, squeeze=False).flat
        for label, axes in enumerate(panels):
            if label < len(shown):
                _draw_class(axes, projection.real, projection.sets[place], label)
                _frame(axes, projection)
                axes.set_title(_plain(shown[label]), fontsize="small", parse_math=False)
            else:
                axes.set_axis_off()
        text = textwrap.fill(
            f"{title}{some}; first two principal components of real images, {first:.0f} and "
            f"{second:.0f} % of their variance",
            int(width * _LETTERS_PER_INCH),
        )
        # Left, as titles of all figures are; the layout leaves room for its height only.
        figure.suptitle(text, x=0.01, ha="left", fontsize="medium", parse_math=False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, markerscale=2)
        _save(figure, stem)


def _draw_class(axes: Axes, real: Points, samples: Points, label: int) -> None:
    """Draws all real images pale, those of a class in blue, and its samples on top."""
    own, synthetic = real.labels == label, samples.labels == label
    axes.scatter(*real.places[~own].T, color=LIGHT, label="real, other classes", **_REAL)
    axes.scatter(*real.places[own].T, color=BLUE, label="real, this class", **_REAL)
    axes.scatter(*samples.places[synthetic].T, color=ORANGE, label="synthetic", **_SYNTHETIC)


def _frame(axes: Axes, projection: Projection) -> None:
    """Shows all points of all figures; what the numbers of the axes are says nothing."""
    everything = np.concatenate([points.places for points in (projection.real, *projection.sets)])
    low, high = everything.min(axis=0), everything.max(axis=0)
    free = _MARGIN * np.maximum(high - low, np.finfo(np.float32).tiny)
    (left, bottom), (right, top) = low - free, high + free
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.set_xticks([])
    axes.set_yticks([])


def _plain(name: str, longest: int = 24) -> str:
    """A class's name as far as it fits; what is no letter of any script would break the line."""
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    return name if len(name) <= longest else f"{name[: longest - 3]}..."


def _save(figure: Figure, stem: str | os.PathLike[str]) -> None:
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes, as in the gallery.
        warnings.filterwarnings("ignore", message="Glyph")
        for suffix in SUFFIXES:
            save_figure(figure, Path(f"{os.fspath(stem)}{suffix}"))
