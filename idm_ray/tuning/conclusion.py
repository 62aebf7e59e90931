"""What a search found: its tables and figures, the best setting, and what that is worth."""

import json
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from idm_ray.config import DataConfig, MachineConfig
from idm_ray.errors import IdmRayError
from idm_ray.evaluation import evaluate
from idm_ray.recorded_queue import Counts
from idm_ray.results.atomic import write_json
from idm_ray.searches.figure import write_grid_figure, write_trials_figure
from idm_ray.searches.files import write_best, write_csv, write_parquet
from idm_ray.searches.search import Search
from idm_ray.searches.trials import Row, TrialResult, best_row
from idm_ray.storage import Location
from idm_ray.tuning.request import DECIDED, DEFAULTS

SPLIT = "validation"
SUMMARY = "summary.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What came of one search.

    Attributes:
        search: which.
        rows: its points, or its trials.
        results: of its trials.
        own: label of the point that the run's own settings give; None if none does.
        is_drawn: whether its points were drawn, one trial each.
    """

    search: Search
    rows: Sequence[Row]
    results: Sequence[TrialResult]
    own: str | None
    is_drawn: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """What searches found.

    Attributes:
        folder: of all files.
        title: what was run.
        found: of each search.
        best: the search and the row of the best mean accuracy on validation images.
        test: accuracies of the best setting on test images, for each seed that came to its end;
            fractions.
        baselines: accuracy on validation images of networks trained on the start and on random
            real images, by name: mean, std, repeats; empty if nobody evaluated them.
        queues: what each queue did that several runs shared.
    """

    folder: Location
    title: str
    found: Sequence[Found]
    best: tuple[Search, Row]
    test: Mapping[int, Sequence[float]]
    baselines: Mapping[str, Mapping[str, Any]]
    queues: Sequence[Counts]


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where searches were run, and with what.

    Attributes:
        folder: of all files.
        title: what was run.
        given: options of the user.
        runs: options of all runs.
    """

    folder: Location
    title: str
    given: Mapping[str, Any]
    runs: Mapping[str, Any]


def conclude(found: Sequence[Found], queues: Sequence[Counts], place: Place) -> Tuned:
    """Write tables and figures, and test the best setting on the test images.

    Args:
        found: of each search.
        queues: what the shared ones did.
        place: of the searches.

    Raises:
        IdmRayError: no trial has shown anything; tables and figures are there.
    """
    folder, title = place.folder, place.title
    results = [result for one in found for result in one.results]
    bests = [(one.search, best) for one in found if (best := _best(one))]
    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch), found, results, title)
        if bests:
            search, row = max(bests, key=lambda pair: (pair[1].mean is not None, pair[1].mean or 0))
            write_best(Path(scratch, "best.yaml"), _of_a_run(place.given), row.options)
        _put(Path(scratch), folder)
    if not bests:
        causes = "; ".join(dict.fromkeys(result.cause for result in results if result.cause))
        raise IdmRayError(f"no run of the search came to an accuracy: {causes or 'no time'}")
    chosen = [r for r in results if r.search == search.name and _shows(r, row)]
    tuned = Tuned(
        folder=folder,
        title=title,
        found=found,
        best=(search, row),
        test={r.seed: _test(folder, r, place.runs) for r in chosen if r.status == "done"},
        baselines=_baselines(folder, results),
        queues=queues,
    )
    _write_summary(tuned)
    return tuned


def _best(found: Found) -> Row | None:
    """The best row; if no trial has come to its end, the one that came furthest and is best there.

    None if no trial has shown anything.
    """
    best = best_row(found.rows)
    if best is not None:
        return best
    far = max(
        (result for result in found.results if result.accuracies),
        key=lambda result: (result.iterations, statistics.fmean(result.accuracies)),
        default=None,
    )
    if far is None:
        return None
    return Row(label=far.label, options=far.options, iterations=far.iterations)


def _shows(result: TrialResult, row: Row) -> bool:
    return result.label == (row.same_as or row.label)


def _write(
    folder: Path, found: Sequence[Found], results: Sequence[TrialResult], title: str
) -> None:
    write_csv(folder / "results.csv", results)
    write_parquet(folder / "results.parquet", results)
    for one in found:
        stem = folder / one.search.name
        if one.is_drawn:
            write_trials_figure(stem, one.results, title=title, split=SPLIT)
        else:
            write_grid_figure(stem, one.search, one.rows, title=title, split=SPLIT, own=one.own)


def _put(source: Path, target: Location) -> None:
    """Put files where they belong, each whole or not at all."""
    for path in sorted(source.iterdir()):
        with open(path, "rb") as file, (target / path.name).atomic_write() as to:
            shutil.copyfileobj(file, to)


def _of_a_run(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the user gave, without what only a search needs."""
    return {name: v for name, v in given.items() if name not in {*DECIDED, *DEFAULTS}}


def _test(folder: Location, result: TrialResult, runs: Mapping[str, Any]) -> list[float]:
    """Accuracies of a run on test images, fractions."""
    parts = (*fields(DataConfig), *fields(MachineConfig))
    names = {*(part.name for part in parts), "repeats", "eval_epochs"} - {"local"}
    options = {name: value for name, value in runs.items() if name in names}
    if options.get("device") == "cuda":
        del options["device"]  # that of the trials; the driver's node may have none
    place = folder / result.folder / "condensed.parquet"
    found = evaluate(
        place.address, **{"data": DataConfig().data} | options, seed=result.seed, local=True
    )
    (network,) = found.networks.values()
    accuracies: list[float] = network["accuracies"]
    return accuracies


def _baselines(folder: Location, results: Sequence[TrialResult]) -> Mapping[str, Mapping[str, Any]]:
    """Those of the first run that has any."""
    for place in dict.fromkeys(result.folder for result in results):
        file = folder / place / "summary.json"
        summary = json.loads(file.read_bytes()) if file.exists() else {}
        if summary.get("random"):
            return {"start": summary["start"], "random": summary["random"]}
    return {}


def _write_summary(tuned: Tuned) -> None:
    search, row = tuned.best
    content = {
        "title": tuned.title,
        "best": {"search": search.name, "label": row.label, "options": dict(row.options)},
        "test": {str(seed): accuracies for seed, accuracies in tuned.test.items()},
        "baselines": tuned.baselines,
        "searches": {one.search.name: [asdict(row) for row in one.rows] for one in tuned.found},
        "shared_queues": [asdict(count) for count in tuned.queues],
    }
    with tempfile.TemporaryDirectory() as scratch:
        write_json(Path(scratch, SUMMARY), content)
        _put(Path(scratch), tuned.folder)
