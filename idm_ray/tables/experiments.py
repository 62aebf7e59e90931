"""Tables of the paper's experiments: methods side by side, misalignment, continual learning."""

from collections.abc import Iterator, Sequence

import rich.filesize
from rich.markup import escape
from rich.table import Table

from idm_ray.analysis.analyse import Analysis
from idm_ray.comparison.cells import Cell, gain, mean_of
from idm_ray.comparison.layout import Grid, grids, title_of
from idm_ray.comparison.work import Compared
from idm_ray.continual.outcome import Learned, Point
from idm_ray.terminal import accuracy_text, duration_text


def analysis_table(analysis: Analysis) -> Table:
    """Consistency ratios, a row for each k and a column for each set."""
    title = f"consistency ratio, %: real neighbours of the sample's class, {analysis.data_name}"
    table = Table(title=escape(title), title_justify="left", min_width=len(title))
    table.add_column("k", justify="right")
    for name in analysis.sets:
        table.add_column(escape(name), justify="right")
    for place, k in enumerate(analysis.k):
        ratios = [one.ratios[place] for one in analysis.sets.values()]
        table.add_row(str(k), *(f"{100 * ratio:.1f}" for ratio in ratios))
    table.caption = escape(
        f"Chance: {100 * analysis.chance:.3g}. Features: {analysis.space}. Written to "
        f"{analysis.out}."
    )
    table.caption_justify = "left"
    return table


def comparison_tables(compared: Compared) -> Iterator[Table | str]:
    """Accuracies like Table 1 of the paper, what each cell took, and what could not be made."""
    for grid in grids(compared.data, compared.cells):
        yield _grid_table(grid)
    yield _costs_table(compared.cells)
    for cell in compared.cells:
        for seed, cause in cell.failed.items():
            yield f"{title_of(cell.method)}, {cell.ipc} per class, seed {seed} failed: {cause}"
    yield f"results.json, results.csv, table.md and table.tex in {compared.folder}"


def _grid_table(grid: Grid) -> Table:
    table = Table(title=escape(grid.title), title_justify="left", min_width=len(grid.title))
    for n, name in enumerate(grid.header):
        table.add_column(escape(name), justify="right" if n else "left")
    for number, (name, *texts) in enumerate(grid.rows):
        cells = [
            f"[bold]{text}[/bold]" if best == number else text
            for text, best in zip(texts, grid.best, strict=True)
        ]
        table.add_row(escape(name), *cells)
    table.caption = "mean ± population deviation (networks); the best of each column is bold"
    table.caption_justify = "left"
    return table


def _costs_table(cells: Sequence[Cell]) -> Table:
    """What the cells took, and how far they are above random images."""
    table = Table(title="what each took", title_justify="left")
    table.add_column("method")
    names = ["per class", "above random", "iterations", "making", "training", "memory"]
    has_networks = len({cell.evaluated_on for cell in cells}) > 1
    for name in (["trained"] if has_networks else []) + names:
        table.add_column(name, justify="right")
    for cell in cells:
        network = [escape(cell.evaluated_on)] if has_networks else []
        table.add_row(title_of(cell.method), *network, *_costs(cell, cells))
    return table


def _costs(cell: Cell, cells: Sequence[Cell]) -> Iterator[str]:
    above, took = gain(cell, cells), mean_of(made.seconds for made in cell.made.values())
    peak = max((made.peak_memory_bytes for made in cell.made.values()), default=0)
    yield str(cell.ipc or "all")
    yield "-" if above is None or cell.method == "random" else f"{100 * above:+.1f}"
    yield str(cell.first.iterations or "-") if cell.first else "-"
    yield "-" if took is None else duration_text(took)
    yield duration_text(cell.evaluate_seconds) if cell.all_accuracies else "-"
    yield rich.filesize.decimal(peak) if peak else "-"


def learned_table(learned: Learned) -> Table:
    """Accuracy by classes so far and method, with what is behind it and what it took."""
    table = Table(title=escape(learned.title), title_justify="left", min_width=len(learned.title))
    methods = learned.schedule.course.methods
    table.add_column("classes so far", justify="right")
    for method in methods:
        table.add_column(method, justify="right")
    curves = [learned.curve(method) for method in methods]
    for seen, *points in zip(learned.schedule.seen, *curves, strict=True):
        table.add_row(str(seen), *map(_point_text, points))
    table.add_section()
    table.add_row("time", *(duration_text(learned.condensing_s[method]) for method in methods))
    table.caption_justify = "left"
    table.caption = escape(
        f"{learned.protocol['split']} accuracy, %: {learned.behind}. Time is that of the memories; "
        f"all networks took {duration_text(learned.training_s)}."
    )
    return table


def _point_text(point: Point) -> str:
    repeats = len(point.accuracies)
    return accuracy_text({"mean": point.mean, "std": point.std, "repeats": repeats})
