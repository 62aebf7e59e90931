"""The figure of continual learning in the paper's form (Fig. 8): accuracy by classes so far.

Importing this module imports matplotlib, which takes a third of a second.
"""

import math
import textwrap
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from idm_ray.continual.outcome import Learned, Point
from idm_ray.results.figures import BLUE, GREY, LIGHT, ORANGE, new_figure, save_figure

_WIDTH, _HEIGHT = 6.4, 4.8
_TITLE_LETTERS: Final = 76
_MOST_TICKS: Final = 12
_STEM: Final = "continual"
# A method looks the same beside whichever others it is drawn.
_LOOKS: Final = {
    "idm": (BLUE, "o"),
    "dm": (ORANGE, "s"),
    "random": (GREY, "v"),
    "dsa": ("#2f8f5b", "^"),
    "dc": ("#8fb339", "<"),
    "herding": ("#8a5fb0", "D"),
    "herding-greedy": ("#c08fd0", "d"),
    "forgetting": ("#b03a48", "P"),
    "kmeans": ("#1b98a6", "X"),
}
_PLAIN: Final = ("black", "*")
_BAND: Final = 0.15


def write_figure(folder: Path, learned: Learned) -> tuple[Path, ...]:
    """Draws a curve with its deviation for each method, as PNG and SVG.

    Args:
        folder: Where.
        learned: What came of the course.

    Returns:
        The files.
    """
    files = tuple(folder / f"{_STEM}{suffix}" for suffix in (".png", ".svg"))
    with new_figure(_WIDTH, _HEIGHT) as figure:
        axes = figure.add_subplot()
        for method in learned.schedule.course.methods:
            _draw_curve(axes, method, learned.curve(method))
        seen = learned.schedule.seen
        # The last one always; of many steps, not all have room for a number.
        axes.xaxis.set_major_locator(FixedLocator(seen[:: -math.ceil(len(seen) / _MOST_TICKS)]))
        axes.set_xlabel(f"classes so far, of {learned.schedule.num_classes}")
        axes.set_ylabel(f"{learned.protocol['split']} accuracy, %")
        axes.grid(axis="y", color=LIGHT)
        title = "\n".join(
            textwrap.fill(line, _TITLE_LETTERS) for line in (learned.title, learned.behind)
        )
        axes.set_title(title, fontsize=10, loc="left", parse_math=False)
        # Below the axes, where it hides no data.
        figure.legend(loc="outside lower center", ncols=3)
        for path in files:
            save_figure(figure, path)
    return files


def _draw_curve(axes: Axes, method: str, points: tuple[Point, ...]) -> None:
    color, marker = _LOOKS.get(method, _PLAIN)
    seen = [point.num_classes for point in points]
    means = [100 * point.mean for point in points]
    spreads = [100 * point.std for point in points]
    last = f"{means[-1]:.1f} ± {spreads[-1]:.1f}"
    label = f"{method}: {last if len(points[-1].accuracies) > 1 else f'{means[-1]:.1f}'}"
    axes.plot(seen, means, color=color, marker=marker, label=label)
    axes.fill_between(
        seen,
        [mean - spread for mean, spread in zip(means, spreads, strict=True)],
        [mean + spread for mean, spread in zip(means, spreads, strict=True)],
        color=color,
        alpha=_BAND,
        linewidth=0,
    )
