"""What is drawn into the axes of a search's figure: a line over values, bars, trials in order."""

import itertools
from collections.abc import Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from idm_ray.results.figures import BLUE, GREY, LIGHT, PALE
from idm_ray.searches.search import Axis, Search, value_text
from idm_ray.searches.trials import Row

_CAP: Final = 4
# More or longer labels than these do not fit below standing bars.
_MOST_BELOW, _LONGEST_BELOW = 7, 16
# Values closer together than this are shown on a linear scale: on another, nobody sees why.
_WIDE: Final = 4
# Of a tick's label, in points; a little more than a digit of the font is wide.
_DIGIT: Final = 8


def values_of(search: Search, rows: Sequence[Row]) -> list[float] | None:
    """The value of each row; None if there are none that can be put on an axis."""
    if search.axis.scale not in ("linear", "log") or len(search.varies) != 1:
        return None
    values = [row.options[search.varies[0]] for row in rows]
    return values if all(isinstance(value, int | float) for value in values) else None


def draw_line(
    axes: Axes, axis: Axis, rows: Sequence[Row], values: Sequence[float], own: str | None
) -> None:
    """Draws means over their values, the default marked.

    Args:
        axes: To draw into.
        axis: Its label and scale.
        rows: With means, in any order.
        values: Of the rows.
        own: Label of the default; None if it is not among them.
    """
    order = sorted(range(len(rows)), key=lambda i: values[i])
    rows, values = [rows[i] for i in order], [values[i] for i in order]
    means = [100 * (row.mean or 0) for row in rows]
    axes.errorbar(
        values,
        means,
        yerr=[100 * row.std for row in rows],
        color=BLUE,
        ecolor=BLUE,
        elinewidth=1.2,
        capsize=_CAP,
        marker="o",
        label=_count_text(rows),
    )
    same = [i for i, row in enumerate(rows) if row.same_as]
    if same:
        hollow: dict[str, Any] = {"linestyle": "", "marker": "o", "markerfacecolor": "white"}
        axes.plot(
            [values[i] for i in same],
            [means[i] for i in same],
            color=BLUE,
            zorder=3,
            label="the same run",
            **hollow,
        )
    for row, value in zip(rows, values, strict=True):
        if row.label == own:
            axes.axvline(value, color=GREY, linestyle="--", linewidth=1, zorder=0, label="default")
    _set_scale(axes, axis, values)
    axes.grid(axis="y", color=LIGHT)


def _set_scale(axes: Axes, axis: Axis, values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0]
    if axis.scale == "log" and positive and max(positive) >= _WIDE * min(positive):
        if min(values) > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
            axes.set_xlim(left=-min(positive) / 5)  # there is nothing below 0
    axes.set_xlabel(axis.label)
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, place: labels.get(value, ""))
    labels = _labels_that_fit(axes, values)


def _labels_that_fit(axes: Axes, values: Sequence[float]) -> dict[float, str]:
    """Labels of values, ascending, but for those that would run into the one before."""
    labels: dict[float, str] = {}
    free_from = float("-inf")
    for value in values:
        text = value_text(float(value))
        width = _DIGIT * len(text)
        middle = axes.transData.transform((value, 0))[0] * 72 / axes.figure.dpi
        if middle - width / 2 >= free_from:
            labels[value] = text
            free_from = middle + width / 2
    return labels


def draw_bars(axes: Axes, axis: Axis, rows: Sequence[Row], own: str | None) -> None:
    """Draws a bar for each row: standing, or lying where labels are long or many."""
    stand = fit_below(rows)
    draw: Any = axes.bar if stand else axes.barh
    deviation = "yerr" if stand else "xerr"
    kinds: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        kinds.setdefault(_bar_kind(row, rows, own), []).append(place)
    for (label, color), places in kinds.items():
        draw(
            places,
            [100 * (rows[place].mean or 0) for place in places],
            0.6,
            color=color,
            edgecolor=BLUE,
            label=label,
            error_kw={"ecolor": "#222222", "elinewidth": 1.2, "capsize": _CAP},
            **{deviation: [100 * rows[place].std for place in places]},
        )
    labels = [row.label for row in rows]
    if stand:
        axes.set_xticks(range(len(rows)), labels)
        axes.set_xlabel(axis.label)
    else:
        axes.set_yticks(range(len(rows)), labels)
        axes.invert_yaxis()
    _write_means(axes, rows, stand=stand)


def _bar_kind(row: Row, rows: Sequence[Row], own: str | None) -> tuple[str, str]:
    """What a bar is called in the legend, and its colour."""
    if row.label == own:
        return "default", BLUE
    return ("the same run", "white") if row.same_as else (_count_text(rows), PALE)


def _write_means(axes: Axes, rows: Sequence[Row], *, stand: bool) -> None:
    """Writes each mean behind the end of its bar, where its deviation does not reach."""
    for place, row in enumerate(rows):
        mean = 100 * (row.mean or 0)
        end = mean + 100 * row.std
        axes.annotate(
            f"{mean:.1f}",
            (place, end) if stand else (end, place),
            xytext=(0, 3) if stand else (4, 0),
            textcoords="offset points",
            ha="center" if stand else "left",
            va="bottom" if stand else "center",
            fontsize=10,
        )
    reach = max(100 * ((row.mean or 0) + row.std) for row in rows)
    (axes.set_ylim if stand else axes.set_xlim)(0, 1.12 * reach or 1)


def fit_below(rows: Sequence[Row]) -> bool:
    """Whether bars can stand, with their labels below them."""
    return len(rows) <= _MOST_BELOW and all(len(row.label) <= _LONGEST_BELOW for row in rows)


def draw_trials(axes: Axes, points: Sequence[tuple[int, float, str]]) -> None:
    """Draws trials, (number, accuracy in percent, status), and the best so far as a line."""
    for status, face in (("done", BLUE), ("stopped", "white")):
        numbers = [number for number, _, found in points if found == status]
        accuracies = [accuracy for _, accuracy, found in points if found == status]
        if numbers:
            axes.plot(
                numbers,
                accuracies,
                linestyle="",
                marker="o",
                color=BLUE,
                markerfacecolor=face,
                label={"done": "to its end", "stopped": "stopped early"}[status],
            )
    done = [(number, accuracy) for number, accuracy, status in points if status == "done"]
    if done:
        best = list(itertools.accumulate((accuracy for _, accuracy in done), max))
        numbers = [*(number for number, _ in done), points[-1][0]]
        axes.step(
            numbers,
            [*best, best[-1]],
            where="post",
            color=GREY,
            linewidth=1.2,
            label="best so far",
        )
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=LIGHT)


def draw_nothing(axes: Axes) -> None:
    """Says that there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no trial came to its end", ha="center", transform=axes.transAxes)


def _count_text(rows: Sequence[Row]) -> str:
    """What is behind the means: the same for all rows, or at most."""
    networks, seeds = (max(row.networks for row in rows), max(row.num_seeds for row in rows))
    return f"mean ± std, {networks} network{'s' * (networks > 1)}, {seeds} seed{'s' * (seeds > 1)}"
