"""Plots as SVG in the page itself: its own letters, and colours that follow light and dark.

Importing this module imports matplotlib, which takes a third of a second.
"""

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from idm_ray.page.content import Plot
from idm_ray.page.search_files import Trial
from idm_ray.results.curves import Reports, draw_iterations, panels_of
from idm_ray.results.figures import BLUE, GREY, LIGHT, ORANGE, PALE, new_figure
from idm_ray.results.metrics_log import is_progress
from idm_ray.searches.drawing import (
    draw_bars,
    draw_line,
    draw_nothing,
    draw_trials,
    fit_below,
    values_of,
)
from idm_ray.searches.search import Search
from idm_ray.searches.trials import Row

# In inches. At 390 pixels, the width of a phone, letters are about as large as those of the text.
_WIDTH, _HEIGHT = 5.4, 2.8
_AROUND_BARS, _BAR_HEIGHT, _LINE_HEIGHT = 1.4, 0.36, 0.21
# Longer texts of a legend stand below each other.
_LETTERS: Final = 24
# What the colours of a drawing are on a page; style.css says what they are in light and dark.
_GREEN, _VIOLET, _RED, _OLIVE = "#0f7b6c", "#8a4f9e", "#b03a48", "#8c7a1f"
_ON_A_PAGE: Final = {
    BLUE: "var(--blue)",
    PALE: "var(--blue-pale)",
    ORANGE: "var(--orange)",
    "#efd3ba": "var(--orange-pale)",
    GREY: "var(--soft)",
    "#d0d0d0": "var(--line)",
    LIGHT: "var(--line)",
    "#000000": "currentColor",
    "#222222": "currentColor",
    "#ffffff": "var(--paper)",
    _GREEN: "var(--green)",
    _VIOLET: "var(--violet)",
    _RED: "var(--red)",
    _OLIVE: "var(--olive)",
}
_LINES: Final = (ORANGE, _GREEN, _VIOLET, _RED, _OLIVE, GREY, BLUE)
_MARKERS: Final = "os^Dv<>"
_COLOR: Final = re.compile("|".join(_ON_A_PAGE))
_REFERENCE: Final = re.compile(r'(?<=\bid=")|(?<=href="#)|(?<=url\(#)')

Draw = Callable[[Axes], None]


def draw_plot(name: str, draw: Draw, *, caption: str, alt: str, height: float = _HEIGHT) -> Plot:
    """Draw into a figure of the page's size.

    Args:
        name: different for each plot of a page.
        draw: into the axes; what it gives a label comes into a legend.
        caption: what is shown.
        alt: what can be seen.
        height: in inches.
    """
    # Texts stay texts: they can be found and copied, and are in the font of the page.
    with new_figure(_WIDTH, height) as figure, mpl.rc_context({"svg.fonttype": "none"}):
        axes = figure.add_subplot()
        draw(axes)
        labels = axes.get_legend_handles_labels()[1]
        if labels:
            # Above the axes, where it hides no data and takes neither width nor height of theirs.
            columns = 1 if max(map(len, labels)) > _LETTERS else 2
            legend = figure.legend(loc="outside upper left", ncols=columns, fontsize=11)
            for text in legend.get_texts():
                text.set_parse_math(False)
            lines = sum(1 + label.count("\n") for label in labels) / columns
            figure.set_size_inches(_WIDTH, height + _LINE_HEIGHT * lines)
        return Plot(svg=_inline(figure, name), caption=caption, alt=alt)


def draw_run(reports: Reports, split: str) -> list[Plot]:
    """Draw losses and accuracies of a run over its iterations."""
    plots = []
    for name, draw in panels_of(reports, split).items():

        def draw_panel(axes: Axes, draw: Draw = draw) -> None:
            draw(axes)
            draw_iterations(axes, reports)

        plots.append(
            draw_plot(
                name,
                draw_panel,
                caption=name.capitalize(),
                alt=_told(name, reports),
            )
        )
    return plots


def _told(name: str, reports: Reports) -> str:
    """What can be seen in a plot of a run: where a curve begins and ends."""
    measure = "matched_accuracy" if name == "accuracy" else name.replace(" ", "_")
    found = [
        (report["iteration"], report[measure])
        for report in reports
        if is_progress(report) and isinstance(report.get(measure), int | float)
    ]
    if not found:
        return f"{name} over the iterations"
    (first, before), (last, after) = found[0], found[-1]
    what = "accuracy of the matched networks" if name == "accuracy" else name
    return f"{what}: {before:.3g} at iteration {first}, {after:.3g} at iteration {last}"


def draw_search(search: Search, rows: Sequence[Row], *, split: str) -> Plot:
    """Draw the means of a grid with their deviations, over values or as bars."""
    rows = [row for row in rows if row.mean is not None]
    values = values_of(search, rows)
    what = f"{split} {search.metric}"

    def draw(axes: Axes) -> None:
        if not rows:
            draw_nothing(axes)
        elif values is None:
            draw_bars(axes, search.axis, rows, None)
            (axes.set_ylabel if fit_below(rows) else axes.set_xlabel)(what)
            for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
                text.set_parse_math(False)
        else:
            draw_line(axes, search.axis, rows, values, None)
            axes.set_ylabel(what)

    told = ", ".join(f"{row.label}: {100 * (row.mean or 0):.1f}" for row in rows)
    return draw_plot(
        search.name,
        draw,
        caption=f"{split.capitalize()} accuracy by {search.name}",
        alt=f"{what} by {search.name}: {told}",
        height=_HEIGHT
        if values is not None or fit_below(rows)
        else _AROUND_BARS + _BAR_HEIGHT * len(rows),
    )


def draw_drawn(search: Search, trials: Sequence[Trial], *, split: str) -> Plot:
    """Draw trials in their order, with the best so far."""
    points = [
        (number, 100 * sum(trial.accuracies) / len(trial.accuracies), trial.status)
        for number, trial in enumerate(trials, 1)
        if trial.accuracies
    ]

    def draw(axes: Axes) -> None:
        if points:
            draw_trials(axes, points)
            axes.set_ylabel(f"{split} {search.metric}")
        else:
            draw_nothing(axes)

    best = max((accuracy for _, accuracy, _ in points), default=0.0)
    return draw_plot(
        search.name,
        draw,
        caption=f"{split.capitalize()} accuracy of the trials, in their order",
        alt=f"{len(points)} trials, the best one with {best:.1f} % accuracy",
    )


def draw_by_ipc(
    name: str, methods: Mapping[str, Mapping[int, tuple[float, float]]], whole: float | None
) -> Plot:
    """Draw accuracy over images per class, a line for each method.

    Args:
        name: of the plot.
        methods: mean and deviation by images per class, by method; fractions.
        whole: accuracy with all real images, if it is known.
    """

    def draw(axes: Axes) -> None:
        styles = zip(itertools.cycle(_LINES), itertools.cycle(_MARKERS))
        for (method, cells), (color, marker) in zip(methods.items(), styles, strict=False):
            ipcs = sorted(cells)
            axes.errorbar(
                ipcs,
                [100 * cells[ipc][0] for ipc in ipcs],
                yerr=[100 * cells[ipc][1] for ipc in ipcs],
                color=BLUE if method == "idm" else color,
                marker=marker,
                elinewidth=1.2,
                capsize=3,
                label=method,
            )
        if whole is not None:
            axes.axhline(100 * whole, color="black", linestyle="-.", linewidth=1.2, label="whole")
        every = sorted({ipc for cells in methods.values() for ipc in cells})
        if len(every) > 1:
            axes.set_xscale("log")
        axes.set_xticks(every, [str(ipc) for ipc in every])
        axes.minorticks_off()
        axes.grid(axis="y", color=LIGHT)
        axes.set_xlabel("images per class")
        axes.set_ylabel("test accuracy, %")

    told = "; ".join(
        f"{method} " + ", ".join(f"{100 * m:.1f} at {ipc}" for ipc, (m, _) in sorted(cells.items()))
        for method, cells in methods.items()
    )
    return draw_plot(
        name, draw, caption="Test accuracy by images per class", alt=f"Accuracy in percent: {told}"
    )


def _inline(figure: Figure, name: str) -> str:
    """A figure as an SVG element for a page that has others: no header, its own identifiers."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    # What it says of its maker, and a style that would hold for the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    # The name may be a stranger's, and this is markup.
    prefix = f"plot-{hashlib.sha256(name.encode()).hexdigest()[:8]}-"
    text = _REFERENCE.sub(prefix, text)
    text = _COLOR.sub(lambda found: _ON_A_PAGE[found[0]], text)
    return re.sub(r"<svg[^>]*>", _root(figure), text, count=1)


def _root(figure: Figure) -> str:
    width, height = (72 * side for side in figure.get_size_inches())
    return f'<svg viewBox="0 0 {width:g} {height:g}" aria-hidden="true" focusable="false">'
