"""The files of a search's folder, read back and checked."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from idm_ray.errors import UserError
from idm_ray.page.fields import Fields
from idm_ray.page.texts import Result
from idm_ray.searches.trials import Row
from idm_ray.storage import Location

REQUEST: Final = "search.yaml"
_SUMMARY, _LOG, _TRIALS, _BEST = "summary.json", "trials.json", "results.csv", "best.yaml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A run of a search.

    Attributes:
        search: whose.
        label: of its point.
        status: running, done, failed or stopped.
        accuracies: fractions; of the last time that they were looked at.
        iterations: that it came to.
        folder: of the run, below that of the search; empty if it has none.
    """

    search: str
    label: str
    status: str
    accuracies: Sequence[float]
    iterations: int
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Concluded:
    """What a search that has come to its end found.

    Attributes:
        title: what was run.
        rows: the points of each search.
        best: name of the search and label of the point that are best.
        best_config: the best settings as `condense --config` takes them.
        test: accuracies of the best setting on test images by seed, fractions.
        baselines: on validation images, by name.
        trials: of all searches.
    """

    title: str
    rows: Mapping[str, Sequence[Row]]
    best: tuple[str, str]
    best_config: str
    test: Mapping[str, Sequence[float]]
    baselines: Mapping[str, Result]
    trials: Sequence[Trial]

    @property
    def best_row(self) -> Row | None:
        """The best point."""
        name, label = self.best
        return next((row for row in self.rows.get(name, ()) if row.label == label), None)

    @property
    def best_folder(self) -> str:
        """The folder of a run of the best point; empty if there is none."""
        name, label = self.best
        label = (self.best_row and self.best_row.same_as) or label
        of_best = [t for t in self.trials if (t.search, t.label) == (name, label) and t.folder]
        return next((trial.folder for trial in of_best if trial.status == "done"), "")


def read_request(folder: Location) -> Mapping[str, Any]:
    """Read what a search was asked.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / REQUEST
    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"expected the YAML of a search in {file}: {reason}") from error
    if not isinstance(content, dict) or not isinstance(content.get("search"), list):
        raise UserError(
            f"expected what a search was asked in {file}, found {content!r:.60}; name the folder "
            "that idm-ray tune wrote"
        )
    return content


def read_conclusion(folder: Location) -> Concluded | None:
    """Read what a search found; None if it has not come to its end.

    Raises:
        UserError: a file is damaged.
    """
    if not (folder / _SUMMARY).exists():
        return None
    found = Fields.read(folder / _SUMMARY)
    searches, best = found.part("searches"), found.part("best")
    test, baselines = found.part("test"), found.part("baselines")
    return Concluded(
        title=found.text("title"),
        rows={name: [_row(row) for row in searches.parts(name)] for name, _ in searches.items()},
        best=(best.text("search"), best.text("label")),
        best_config=(folder / _BEST).read_bytes().decode(errors="replace"),
        test={seed: test.numbers(seed) for seed, _ in test.items()},
        baselines={name: Result.of(baselines.part(name)) for name, _ in baselines.items()},
        trials=_read_trials(folder / _TRIALS),
    )


def read_log(folder: Location) -> list[Trial]:
    """Read what became of the trials of a search that is under way; none if nobody knows.

    Raises:
        UserError: the file is damaged.
    """
    if not (folder / _LOG).exists():
        return []
    trials = []
    for entry in Fields.read(folder / _LOG).parts("trials"):
        reports = entry.parts("reports")
        last = reports[-1] if reports else None
        trials.append(
            Trial(
                search="",
                label=entry.text("folder"),
                status=entry.text("status"),
                accuracies=last.numbers("accuracies") if last else (),
                iterations=last.count("iteration") if last else 0,
                folder=entry.text("folder"),
            )
        )
    return trials


def _row(fields: Fields) -> Row:
    means = fields.part("seed_means")
    return Row(
        label=fields.text("label"),
        options=dict(fields.part("options").items()),
        mean=fields.number("mean") if fields.has("mean") else None,
        std=fields.number("std"),
        seed_means={_seed(seed): means.number(seed) for seed, _ in means.items()},
        networks=fields.count("networks"),
        seconds=fields.number("seconds"),
        iterations=fields.count("iterations"),
        stopped=fields.count("stopped"),
        causes=tuple(fields.texts("causes")),
        same_as=fields.text("same_as"),
    )


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"expected a seed in seed_means, found {text!r:.60}") from error


def _read_trials(file: Location) -> list[Trial]:
    try:
        lines = csv.DictReader(io.StringIO(file.read_bytes().decode()))
        return [_trial(line, str(file)) for line in lines]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, csv.Error, RecursionError) as error:
        raise UserError(
            f"expected the trials of a search in {file}, found something else ({error}); restore "
            "the file, or run the search again with --resume auto"
        ) from error


def _trial(line: Mapping[str, str], where: str) -> Trial:
    accuracies = Fields({"accuracies": json.loads(line["accuracies"])}, where)
    return Trial(
        search=line["search"],
        label=line["label"],
        status=line["status"],
        accuracies=accuracies.numbers("accuracies"),
        iterations=int(line["iterations_done"]),
        folder=line["folder"],
    )
