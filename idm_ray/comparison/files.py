"""The files of a comparison: its cells as JSON and CSV, its tables as Markdown and LaTeX."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from idm_ray.comparison.cells import Cell, from_told, told
from idm_ray.comparison.layout import Grid, grids
from idm_ray.errors import UserError
from idm_ray.storage import Location

FORMAT: Final = 1
RESULTS: Final = "results.json"
FILES: Final = (RESULTS, "results.csv", "table.md", "table.tex")

_LATEX: Final = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "±": r"$\pm$"}
)


def read_cells(folder: Location) -> list[Cell]:
    """The cells of an earlier request in the same folder.

    Raises:
        UserError: the file is damaged.
    """
    place = folder / RESULTS
    if not place.exists():
        return []
    try:
        return [from_told(cell) for cell in json.loads(place.read_bytes())["cells"]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"expected the cells of a comparison in {place}, found something else; restore the "
            "file, or remove it: what its sets are worth is known"
        ) from error


def write_results(
    folder: Location, data: str, cells: Sequence[Cell], made: Mapping[str, Any]
) -> None:
    """Write results.json, results.csv, table.md and table.tex, each atomically.

    Args:
        folder: of the comparison.
        data: name of the data set.
        cells: all of them, the empty ones too.
        made: how: command, versions, commit.
    """
    found = [told(cell, cells) for cell in cells]
    content = {"format": FORMAT, "kind": "comparison", "data": data, "cells": found, "made": made}
    tables = grids(data, cells)
    texts = {
        RESULTS: json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        "results.csv": as_csv(found),
        "table.md": "\n".join(map(as_markdown, tables)),
        "table.tex": "\n".join(map(as_latex, tables)),
    }
    assert tuple(texts) == FILES
    for name, text in texts.items():
        with (folder / name).atomic_write() as file:
            file.write(text.encode())


def as_csv(cells: Sequence[Mapping[str, Any]]) -> str:
    """One line for each cell; accuracies are fractions."""
    file = io.StringIO(newline="")
    names = [name for name in cells[0] if name not in ("seeds", "failed")]
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*names, "accuracies", "failed"])
    for cell in cells:
        accuracies = json.dumps({str(s["seed"]): s["accuracies"] for s in cell["seeds"]})
        values = ["" if cell[name] is None else cell[name] for name in names]
        lines.writerow([*values, accuracies, "; ".join(cell["failed"].values())])
    return file.getvalue()


def as_markdown(grid: Grid) -> str:
    """A table whose best cells are bold."""
    lines = [
        f"{grid.title}\n",
        f"| {' | '.join(map(_md, grid.header))} |",
        "| --- |" + " ---: |" * (len(grid.header) - 1),
    ]
    for number, (name, *texts) in enumerate(grid.rows):
        cells = [f"**{text}**" if grid.best[n] == number else text for n, text in enumerate(texts)]
        lines.append(f"| {_md(name)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_latex(grid: Grid) -> str:
    """The same as a tabular."""
    columns = "l" + "r" * (len(grid.header) - 1)
    lines = [
        f"% {' '.join(grid.title.split())}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\hline",
        _tex(grid.header),
        r"\hline",
    ]
    for number, (name, *texts) in enumerate(grid.rows):
        cells = [
            rf"\textbf{{{text.translate(_LATEX)}}}"
            if grid.best[n] == number
            else text.translate(_LATEX)
            for n, text in enumerate(texts)
        ]
        lines.append(" & ".join([name.translate(_LATEX), *cells]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}"]) + "\n"


def _md(text: str) -> str:
    return text.replace("|", r"\|")


def _tex(texts: Sequence[str]) -> str:
    return " & ".join(text.translate(_LATEX) for text in texts) + r" \\"
