"""The folder of an analysis: its table as CSV and JSON, and its figures as PNG and SVG."""

import csv
import dataclasses
import io
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from idm_ray.analysis.projection import Projection
from idm_ray.errors import UserError
from idm_ray.results.atomic import write_json, write_text
from idm_ray.storage import Location

if TYPE_CHECKING:
    from idm_ray.analysis.analyse import Analysis

_STEM: Final = "consistency"
_WHOLE: Final = f"{_STEM}.json"
_OURS: Final = re.compile(rf"{_STEM}\.(csv|json|png|svg)|features-[\w.-]+\.(png|svg)")
_COLUMNS: Final = ("set", "file", "method", "partition", "ipc", "samples", "k")


def check_place(place: Location, *, overwrite: bool) -> None:
    """Refuse to write over anything but an earlier analysis.

    Raises:
        UserError: there is something else, or an analysis that may not be replaced.
    """
    if not place.exists():
        return
    if not place.is_folder():
        raise UserError(f"expected a folder for --out, found a file at {place}; choose another")
    names = sorted(_names(place))
    foreign = next((name for name in names if not _OURS.fullmatch(name)), None)
    if foreign is not None:
        raise UserError(
            f"expected nothing or an earlier analysis in {place}, found {foreign!r}; choose "
            "another --out"
        )
    if names and not overwrite:
        raise UserError(
            f"expected nothing in {place}, found an earlier analysis; add --overwrite or choose "
            "another --out"
        )


def write_files(
    place: Location, found: "Analysis", projection: Projection, class_names: Sequence[str]
) -> None:
    """Write all files of an analysis, each atomically; those of an earlier one go.

    Args:
        place: checked.
        found: the analysis.
        projection: of its features, sets in their order.
        class_names: of the data.

    Raises:
        StorageError, OSError: a file cannot be written.
    """
    stale = {name for name in _names(place) if _OURS.fullmatch(name)} if place.exists() else set()
    with tempfile.TemporaryDirectory(prefix="idm_ray-analysis.") as made:
        _write_here(Path(made), found, projection, class_names)
        written = sorted(Path(made).iterdir(), key=lambda path: (path.name == _WHOLE, path.name))
        (place / _WHOLE).delete()  # it comes last: where it is, all is there
        for path in written:
            (place / path.name).write_bytes(path.read_bytes())
    for name in sorted(stale - {path.name for path in written}):
        (place / name).delete()


def _write_here(
    folder: Path, found: "Analysis", projection: Projection, class_names: Sequence[str]
) -> None:
    from idm_ray.analysis.figures import (  # noqa: PLC0415 -- matplotlib, at the end
        write_consistency_figure,
        write_features_figure,
    )

    write_text(folder / f"{_STEM}.csv", _as_csv(found))
    write_json(folder / _WHOLE, dataclasses.asdict(found))
    write_consistency_figure(folder / _STEM, found)
    for place, name in enumerate(found.sets):
        title = f"{name}, features of {found.space}"
        write_features_figure(
            folder / f"features-{name}", projection, place, class_names, title=title
        )


def _as_csv(found: "Analysis") -> str:
    """One line for each set and k; ratios are fractions."""
    file = io.StringIO(newline="")
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*_COLUMNS, "consistency_ratio"])
    for name, one in found.sets.items():
        about = (name, one.file, one.method, one.partition, one.ipc, one.samples)
        lines.writerows([*about, k, ratio] for k, ratio in zip(found.k, one.ratios, strict=True))
    return file.getvalue()


def _names(place: Location) -> Iterator[str]:
    """What is in a folder, one level deep where it is on a local disk."""
    if place.local is None:
        yield from (file.path for file in place.files())
    else:
        yield from (path.name for path in place.local.iterdir())
