"""What the page of a comparison says, from the files of its folder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idm_ray.errors import UserError
from idm_ray.formats.opening import read_set
from idm_ray.page.comparison_file import ComparedCell, Comparison, read_comparison
from idm_ray.page.content import Cell, Code, Facts, Page, Part, Plot, Plots, Section, Table, row
from idm_ray.page.gallery import Shown, make_gallery
from idm_ray.page.making import value_text, versions_text
from idm_ray.page.plots import draw_by_ipc
from idm_ray.page.texts import (
    accuracy_cell,
    bytes_text,
    percent_text,
    plural,
    share_text,
)
from idm_ray.storage import Location
from idm_ray.terminal import duration_text

_NONE = "-"
Cells = Sequence[ComparedCell]


def comparison_page(place: Location) -> Page:
    """Put together what a comparison found.

    Args:
        place: of its folder.

    Raises:
        UserError: its file is damaged.
        StorageError: a remote store went on failing.
    """
    found = read_comparison(place)
    sections = [
        Section(name=f"protocol-{i}", heading=f"Protocol {protocol}", parts=_results(i, cells))
        for i, (protocol, cells) in enumerate(_by(found.cells, lambda c: c.protocol).items())
    ]
    gallery, notices = _gallery(place, found.cells)
    if gallery:
        sections.append(Section(name="images", heading="The images", parts=gallery))
    sections.append(Section(name="costs", heading="What each took", parts=[_costs(found.cells)]))
    sections.append(Section(name="made", heading="How it was made", parts=_made(found.made)))
    missing = [cell for cell in found.cells if cell.mean is None]
    if missing:
        notices.insert(
            0,
            f"This comparison has not come to its end: {plural(len(missing), 'cell')} of "
            f"{len(found.cells)} have no accuracy yet. It goes on with the command that began it.",
        )
    return Page(
        what="comparison",
        title=f"{found.data}, {plural(len(_by(found.cells, _method)), 'method')}",
        lead=_lead(found),
        figures=_figures(found),
        sections=sections,
        notices=notices,
        is_complete=not missing,
    )


def _results(number: int, cells: Cells) -> list[Part]:
    """Tables of the cells of one protocol; and a plot, where it is methods by images per class."""
    if len({cell.evaluated_on for cell in cells}) > 1 or len(_networks(cells)) > 1:
        return [_across(ipc, of_ipc) for ipc, of_ipc in _by(cells, lambda c: c.ipc).items()]
    parts: list[Part] = [_by_ipc(cells)]
    if len(_ipcs(cells)) > 1:
        parts.append(Plots(plots=[_plot(number, cells)]))
    return parts


def _by_ipc(cells: Cells) -> Table:
    """As Table 1 of the paper: a row for each method, a column for each number of images."""
    ipcs = _ipcs(cells)
    best = {ipc: _best([cell for cell in cells if cell.ipc == ipc]) for ipc in ipcs}
    columns = [Cell(text="Method")]
    for ipc in ipcs:
        ratio = next((c.ratio for c in cells if c.ipc == ipc and c.ratio is not None), None)
        note = "" if ratio is None else share_text(ratio)
        columns.append(Cell(text=f"{ipc} per class", is_number=True, note=note))
    rows = []
    for method, found in _by(cells, _method).items():
        by_ipc = {cell.ipc: cell for cell in found}
        if set(by_ipc) == {None}:
            cell = _accuracy(by_ipc[None], None)
            rows.append(row(method, Cell(text=cell.text, is_number=True, columns=len(ipcs) or 1)))
        else:
            rows.append(row(method, *(_accuracy(by_ipc.get(ipc), best[ipc]) for ipc in ipcs)))
    return Table(
        caption=_terms(cells, "Shares are of the training images."), columns=columns, rows=rows
    )


def _across(ipc: int | None, cells: Cells) -> Table:
    """As Tables 4 and 5 of the paper: with what was condensed, against what was trained on it."""
    tested = list(_by(cells, lambda c: c.evaluated_on))
    best = {name: _best([c for c in cells if c.evaluated_on == name]) for name in tested}
    rows = []
    for (method, network), found in _by(cells, lambda c: (c.method, c.network)).items():
        on = {cell.evaluated_on: cell for cell in found}
        label = f"{method}, {network}" if network else method
        rows.append(row(label, *(_accuracy(on.get(name), best[name]) for name in tested)))
    what = "All training images." if ipc is None else f"{plural(ipc, 'image')} per class."
    return Table(
        caption=f"{what} Rows: method and the network that it condensed with; columns: the "
        f"network that was trained on the images. {_terms(cells, '')}",
        columns=[
            Cell(text="Method, network"),
            *(Cell(text=name, is_number=True) for name in tested),
        ],
        rows=rows,
    )


def _accuracy(cell: ComparedCell | None, best: ComparedCell | None) -> Cell:
    if cell is None or cell.mean is None:
        return Cell(text=_NONE, is_number=True)
    return accuracy_cell(cell.mean, cell.std, cell.count, is_best=cell is best)


def _best(cells: Cells) -> ComparedCell | None:
    """The cell with the highest mean; all real images are what methods are held against."""
    return max(
        (cell for cell in cells if cell.mean is not None and cell.ipc is not None),
        key=lambda cell: cell.mean or 0,
        default=None,
    )


def _terms(cells: Cells, more: str) -> str:
    networks = ", ".join(_by(cells, lambda c: c.evaluated_on))
    epochs = " or ".join(f"{epochs:,}" for epochs in _by(cells, lambda c: c.epochs))
    return (
        "Test accuracy in percent: mean ± population standard deviation over (n) fresh networks. "
        f"{networks}, {epochs} epochs. {more}"
    ).rstrip()


def _plot(number: int, cells: Cells) -> Plot:
    methods: dict[str, dict[int, tuple[float, float]]] = {}
    for cell in cells:
        if cell.mean is not None and cell.ipc is not None:
            methods.setdefault(cell.method, {})[cell.ipc] = (cell.mean, cell.std)
    whole = next((cell.mean for cell in cells if cell.ipc is None and cell.mean is not None), None)
    return draw_by_ipc(f"by-ipc-{number}", methods, whole)


def _gallery(place: Location, cells: Cells) -> tuple[list[Part], list[str]]:
    """The images of each folder side by side, and what is not shown of them."""
    sets, notices = [], []
    of_folder = {cell.folder: cell for cell in reversed(cells) if cell.folder}
    several = len(_networks(cells)) > 1
    for folder, cell in reversed(of_folder.items()):
        title = f"{cell.method}, {cell.ipc} per class"
        title += f", {cell.network}" * (several and bool(cell.network))
        try:
            stored = read_set((place / folder).address)
        except UserError as error:
            notices.append(f"The images of {title} are not shown: {error}")
        else:
            sets.append(Shown(title=title, stored=stored, neighbours={}))
    if not sets:
        return [], notices
    gallery, left_out = make_gallery(sets)
    return [gallery], [*notices, *left_out]


def _costs(cells: Cells) -> Table:
    names = ("Seeds", "Iterations", "Over random", "Condensing", "Evaluation", "Memory")
    columns = [Cell(text="Cell"), *(Cell(text=name, is_number=True) for name in names)]
    return Table(
        caption="Over random: points of accuracy more than as many random real images have. "
        "Memory at most.",
        columns=columns,
        rows=[_cost_row(cell) for cell in cells],
    )


def _cost_row(cell: ComparedCell) -> tuple[Cell, ...]:
    label = cell.method if cell.ipc is None else f"{cell.method}, {cell.ipc} per class"
    note = f"{cell.network or 'no network'} to {cell.evaluated_on}, {cell.protocol}"
    cells = row(
        label,
        ", ".join(map(str, cell.seeds)) or _NONE,
        _text(cell.iterations, lambda count: f"{count:,}"),
        _text(cell.gain, lambda gain: f"{100 * gain:+.1f}"),
        _text(cell.condense_s, duration_text),
        _text(cell.evaluate_s, duration_text),
        _text(cell.memory_bytes, bytes_text),
    )
    return (Cell(text=label, note=note), *cells[1:])


def _text(value: Any, say: Callable[[Any], str]) -> str:
    return _NONE if value is None else say(value)


def _made(made: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    if made.get("command"):
        parts.append(Code(caption="The command", text=value_text(made["command"])))
    facts = []
    for name, value in made.items():
        if name != "command":
            is_versions = name == "versions" and isinstance(value, Mapping)
            facts.append((name, versions_text(value) if is_versions else value_text(value)))
    return [*parts, Facts(facts=facts)]


def _lead(found: Comparison) -> str:
    ipcs = _ipcs(found.cells)
    most = {ipc: _best([cell for cell in found.cells if cell.ipc == ipc]) for ipc in ipcs}
    told = [
        f"{best.method} with {percent_text(best.mean)} at {ipc} per class"
        for ipc, best in most.items()
        if best is not None and best.mean is not None
    ]
    methods = ", ".join(_by(found.cells, _method))
    best_ones = f" The highest accuracies: {'; '.join(told)}." if told else ""
    return f"{methods}, all by the same code and each under a named protocol.{best_ones}"


def _figures(found: Comparison) -> list[tuple[str, str]]:
    networks = sum(cell.count for cell in found.cells)
    condensing = sum(cell.condense_s or 0 for cell in found.cells)
    evaluating = sum(cell.evaluate_s or 0 for cell in found.cells)
    return [
        (str(len(found.cells)), "cells"),
        (f"{networks:,}", "networks trained for them"),
        (duration_text(condensing), "condensing"),
        (duration_text(evaluating), "evaluation"),
    ]


def _networks(cells: Cells) -> set[str]:
    """Networks that images were condensed with."""
    return {cell.network for cell in cells} - {""}


def _ipcs(cells: Cells) -> list[int]:
    return sorted({cell.ipc for cell in cells if cell.ipc is not None})


def _method(cell: ComparedCell) -> str:
    return cell.method


def _by(cells: Cells, key: Callable[[ComparedCell], Any]) -> dict[Any, list[ComparedCell]]:
    """Cells that have something in common, in the order of the first ones."""
    groups: dict[Any, list[ComparedCell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return groups
