"""The picture of how a run went: losses and accuracies over the iterations.

Importing this module imports matplotlib, which takes a third of a second.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from idm_ray.results.figures import BLUE, GREY, LIGHT, ORANGE, PALE, new_figure, save_figure
from idm_ray.results.metrics_log import is_progress

Reports = Sequence[Mapping[str, Any]]
Draw = Callable[[Axes], None]

_WIDTH: Final = 10.0
# Of a panel, and of what is around all of them; in inches.
_PANEL_HEIGHT, _AROUND = 2.4, 0.9
# With fewer reports a line is drawn through each; with more, through the mean of those around.
_FEW: Final = 40
_WINDOWS: Final = 20
# Up to so many points are marked: those of a short run would be invisible otherwise.
_MARKED: Final = 12
# Losses that span more than this are shown on a logarithmic scale.
_WIDE: Final = 30
# What condensed sets are compared with: subject, label, dashes.
_BASELINES: Final = (
    ("whole", "whole data", "-."),
    ("random", "random real images", ":"),
    ("start", "its own start", "--"),
)
# What the networks of the queue say of themselves: name in a report, label, colours.
_OF_THE_QUEUE: Final = (
    ("train_accuracy", "queue, training batches", (ORANGE, "#efd3ba")),
    ("matched_accuracy", "matched networks, training", (GREY, "#d0d0d0")),
)


def write_curves(path: str | os.PathLike[str], reports: Reports, *, title: str, split: str) -> None:
    """Draws a run's log, atomically: a panel for each loss and one for accuracies.

    Args:
        path: The file to create or replace; its suffix says the format.
        reports: Lines of metrics.jsonl, in their order. What is missing is not drawn.
        title: Stands above the panels.
        split: Images that networks were tested on, such as "validation".

    Raises:
        OSError: The file cannot be written.
    """
    panels = panels_of(reports, split).values()
    with new_figure(_WIDTH, _AROUND + _PANEL_HEIGHT * len(panels)) as figure:
        rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axes, draw in zip(rows, panels, strict=True):
            draw(axes)
            if axes.get_legend_handles_labels()[0]:
                # Beside the axes, where it hides no data.
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05))
        rows[0].set_title(title, fontsize="medium", loc="left", parse_math=False)
        draw_iterations(rows[-1], reports)
        figure.align_ylabels(rows)
        save_figure(figure, Path(path))


def panels_of(reports: Reports, split: str) -> dict[str, Draw]:
    """What to draw, from top to bottom, by name: at least the first loss.

    Args:
        reports: lines of metrics.jsonl, in their order.
        split: images that networks were tested on, such as "validation".
    """
    progress = [report for report in reports if is_progress(report)]
    accuracies = _accuracies(reports)
    panels: dict[str, Draw] = {
        "matching loss": partial(_draw_loss, progress, "matching_loss", "matching loss")
    }
    if _series(progress, "regularization")[1].any():
        panels["regularization"] = partial(_draw_loss, progress, "regularization", "regularization")
    is_trained = bool(_series(progress, "matched_age")[1].any())
    if is_trained or accuracies:
        shown = progress if is_trained else []
        panels["accuracy"] = partial(_draw_accuracies, shown, accuracies, split)
    return panels


def draw_iterations(axes: Axes, reports: Reports) -> None:
    """Draws the axis that panels have in common: from 0 to the last iteration of a run's log."""
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, max([1, *map(_iteration, reports)]))


def _draw_loss(progress: Reports, name: str, label: str, axes: Axes) -> None:
    iterations, values = _series(progress, name)
    axes.grid(axis="y", color=LIGHT)
    axes.set_ylabel(f"{label},\nsum over classes")
    if not len(values):
        axes.text(0.5, 0.5, "no reports", ha="center", transform=axes.transAxes)
        return
    _draw_line(axes, iterations, values, (BLUE, PALE), "")
    if values.min() > 0 and values.max() > _WIDE * values.min():
        axes.set_yscale("log")


def _draw_accuracies(
    progress: Reports, accuracies: Mapping[str, Mapping[int, list[float]]], split: str, axes: Axes
) -> None:
    """Draws networks trained on the condensed set and its baselines, and those of the queue."""
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=LIGHT)
    if found := accuracies.get("condensed"):
        _draw_condensed(axes, found, split)
    for subject, label, dashes in _BASELINES:
        if found := accuracies.get(subject):
            mean = 100 * float(np.mean(found[max(found)]))
            text = f"{label}: {mean:.1f}"
            axes.axhline(mean, color="black", linestyle=dashes, linewidth=1.2, label=text)
    for name, label, colors in _OF_THE_QUEUE:
        iterations, values = _series(progress, name)
        if len(values):
            _draw_line(axes, iterations, 100 * values, colors, label)


def _draw_condensed(axes: Axes, found: Mapping[int, list[float]], split: str) -> None:
    iterations = sorted(found)
    means = [100 * float(np.mean(found[iteration])) for iteration in iterations]
    spreads = [100 * float(np.std(found[iteration])) for iteration in iterations]
    networks = max(map(len, found.values()))
    last = f"{means[-1]:.1f} ± {spreads[-1]:.1f}" if networks > 1 else f"{means[-1]:.1f}"
    label = f"condensed set: {last},\n{networks} network{'s' * (networks > 1)}, {split} images"
    # The last one stands at the edge, and is to be seen whole.
    style: Any = {"color": BLUE, "clip_on": False, "zorder": 3}
    axes.plot(iterations, means, marker="o", label=label, **style)
    if networks > 1:
        axes.errorbar(iterations, means, yerr=spreads, fmt="none", capsize=4, **style)


def _draw_line(
    axes: Axes,
    iterations: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    colors: tuple[str, str],
    label: str,
) -> None:
    """Draws values; many of them pale, with the mean of those around in the full colour."""
    color, pale = colors
    if len(values) < _FEW:
        marker = "." if len(values) <= _MARKED else ""
        axes.plot(iterations, values, color=color, marker=marker, label=label, clip_on=False)
        return
    window = len(values) // _WINDOWS
    axes.plot(iterations, values, color=pale, linewidth=1)
    mean = f"mean of {window} reports"
    axes.plot(
        iterations,
        _running_mean(values, window),
        color=color,
        label=f"{label},\n{mean}" if label else mean,
    )


def _running_mean(values: npt.NDArray[np.float64], window: int) -> npt.NDArray[np.float64]:
    """The mean of the values around each; of as many as there are near the ends."""
    weights = np.ones(window)
    counts = np.convolve(np.ones(len(values)), weights, mode="same")
    sums: npt.NDArray[np.float64] = np.convolve(values, weights, mode="same")
    return sums / counts


def _series(
    progress: Reports, name: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Iterations and values of the reports that have a value."""
    found = [
        (report["iteration"], report[name])
        for report in progress
        if isinstance(report.get(name), int | float)
    ]
    iterations, values = np.asarray(found, np.float64).reshape(-1, 2).T
    return iterations, values


def _accuracies(reports: Reports) -> dict[str, dict[int, list[float]]]:
    """Accuracies by subject and iteration; those that later reports repeat count once."""
    found: dict[str, dict[int, dict[Any, float]]] = {}
    for report in reports:
        subject, accuracy = report.get("subject"), report.get("accuracy")
        if isinstance(subject, str) and isinstance(accuracy, float):
            of_subject = found.setdefault(subject, {})
            of_subject.setdefault(_iteration(report), {})[str(report.get("repeat"))] = accuracy
    return {
        subject: {iteration: [*repeats.values()] for iteration, repeats in by_iteration.items()}
        for subject, by_iteration in found.items()
    }


def _iteration(report: Mapping[str, Any]) -> int:
    iteration = report.get("iteration")
    return iteration if isinstance(iteration, int) else 0
