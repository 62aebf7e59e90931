"""The table of a comparison, as plain text: rows, columns, and what stands in each cell."""

from collections.abc import Sequence
from dataclasses import dataclass

from idm_ray.comparison.cells import Cell
from idm_ray.comparison.request import WHOLE
from idm_ray.config import METHODS
from idm_ray.methods.catalog import find_method


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """A table of texts.

    Attributes:
        title: data, protocol and its epochs.
        header: of all columns; the first is that of the rows' names.
        rows: texts, the first the row's name.
        best: column by column, the row that has the highest mean; None where nothing is yet.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: tuple[int | None, ...]


def grids(data: str, cells: Sequence[Cell]) -> list[Grid]:
    """A table for each protocol, in the order in which they come."""
    protocols = dict.fromkeys((cell.protocol, cell.epochs) for cell in cells if cell.ipc)
    return [
        _grid(
            data,
            protocol,
            epochs,
            [c for c in cells if c.protocol == protocol and (c.epochs == epochs or c.ipc is None)],
        )
        for protocol, epochs in protocols
    ] or [_grid(data, cells[0].protocol, cells[0].epochs, cells)]


def _grid(data: str, protocol: str, epochs: int, cells: Sequence[Cell]) -> Grid:
    small = [cell for cell in cells if cell.ipc is not None] or list(cells)
    columns = list(dict.fromkeys(cell.column for cell in small))
    rows = list(dict.fromkeys(cell.row for cell in cells))
    networks = {network for _, network in columns}
    condensed_with = {cell.network for cell in small if cell.network is not None}
    by_place = {(cell.row, cell.column): cell for cell in cells}
    whole = {cell.evaluated_on: cell for cell in cells if cell.ipc is None}

    def found(row: tuple[str, str | None], column: tuple[int | None, str]) -> Cell | None:
        return whole.get(column[1]) if row[0] == WHOLE else by_place.get((row, column))

    placed = [[found(row, column) for column in columns] for row in rows]
    return Grid(
        title=f"{data}: test accuracy, %, protocol {protocol}, {epochs} epochs",
        header=("method", *(_heading(small, column, networks) for column in columns)),
        rows=tuple(
            (_row_name(row, condensed_with), *(cell_text(cell) for cell in of_row))
            for row, of_row in zip(rows, placed, strict=True)
        ),
        best=tuple(_best([of_row[n] for of_row in placed], rows) for n in range(len(columns))),
    )


def title_of(method: str) -> str:
    """A method's name for people."""
    return find_method(method).title if method in METHODS else "Whole data"


def cell_text(cell: Cell | None) -> str:
    """Mean ± deviation (number of networks), in percent; of all real images, the epochs too."""
    if cell is None:
        return ""
    if cell.mean is None or cell.std is None:
        return "failed" if cell.failed else "-"
    count = len(cell.all_accuracies)
    spread = f" ± {100 * cell.std:.1f}" if count > 1 else ""
    epochs = f", {cell.epochs} epoch{'s' * (cell.epochs > 1)}" if cell.ipc is None else ""
    return f"{100 * cell.mean:.1f}{spread} ({count}){epochs}"


def _heading(cells: Sequence[Cell], column: tuple[int | None, str], networks: set[str]) -> str:
    ipc, network = column
    ratio = next(cell.ratio for cell in cells if cell.column == column)
    kept = f"{ipc} per class, {100 * ratio:.3g} %" if ipc else "all"
    return f"{network}, {kept}" if len(networks) > 1 else kept


def _row_name(row: tuple[str, str | None], networks: set[str]) -> str:
    method, network = row
    return f"{title_of(method)}, {network}" if len(networks) > 1 and network else title_of(method)


def _best(cells: Sequence[Cell | None], rows: Sequence[tuple[str, str | None]]) -> int | None:
    means = {
        n: cell.mean
        for n, (cell, row) in enumerate(zip(cells, rows, strict=True))
        if cell is not None and cell.mean is not None and row[0] != WHOLE
    }
    return max(means, key=lambda n: means[n]) if means else None
