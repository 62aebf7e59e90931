"""What came of the trials of a search: one value a trial, one row a point."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from idm_ray.searches.same_runs import Selection


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One run of one point of a search with one seed.

    Attributes:
        search: its name.
        label: of the point.
        options: flat, that the point sets.
        seed: of the run.
        status: running; done; failed, with a cause; or stopped, before its last iteration, as
            others were better by then or there was no more time.
        cause: of a failure, for people.
        accuracies: of the networks trained on its images, fractions; of the last time that they
            were looked at.
        seconds: that it took.
        iterations: that it came to.
        folder: of the run; empty if it has none.
    """

    search: str
    label: str
    options: Mapping[str, Any]
    seed: int
    status: Literal["running", "done", "failed", "stopped"]
    cause: str = ""
    accuracies: tuple[float, ...] = ()
    seconds: float = 0.0
    iterations: int = 0
    folder: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A point of a search with all its trials.

    Attributes:
        label: of the point.
        options: flat, that it sets.
        mean: accuracy over all networks of all seeds, a fraction; None if no trial is done.
        std: population deviation of the same; 0 for a single one.
        seed_means: accuracy by seed, in the order of the seeds.
        networks: how many there are.
        seconds: of all its trials.
        iterations: that its trials came to, at most.
        stopped: trials that were stopped early; they do not count in the mean.
        causes: of those that failed; they do not count either.
        same_as: label of the point whose trials these are; empty if they are its own.
    """

    label: str
    options: Mapping[str, Any]
    mean: float | None = None
    std: float = 0.0
    seed_means: Mapping[int, float] = field(default_factory=dict)
    networks: int = 0
    seconds: float = 0.0
    iterations: int = 0
    stopped: int = 0
    causes: tuple[str, ...] = ()
    same_as: str = ""

    @property
    def num_seeds(self) -> int:
        """Trials that came to their end."""
        return len(self.seed_means)


def tabulate(results: Iterable[TrialResult]) -> tuple[Row, ...]:
    """A row for each point, in the order in which they come first.

    Args:
        results: of one search, in any order of the seeds.
    """
    points: dict[str, list[TrialResult]] = {}
    for result in results:
        points.setdefault(result.label, []).append(result)
    return tuple(_row(trials) for trials in points.values())


def tabulate_grid(selection: Selection, results: Iterable[TrialResult]) -> tuple[Row, ...]:
    """A row for each point of a grid, in its order, points that were not run among them."""
    rows = {row.label: row for row in tabulate(results)}
    return tuple(
        replace(
            rows.get(same_as or point.label, Row(label=point.label, options=point.options)),
            label=point.label,
            options=point.options,
            same_as=same_as,
        )
        for point in selection.points
        for same_as in [selection.same_as.get(point.label, "")]
    )


def best_row(rows: Sequence[Row]) -> Row | None:
    """The row with the highest mean, of those with the most seeds; None if no trial is done."""
    done = [row for row in rows if row.mean is not None]
    most = max((row.num_seeds for row in done), default=0)
    return max((r for r in done if r.num_seeds == most), key=lambda r: r.mean or 0, default=None)


def _row(trials: Sequence[TrialResult]) -> Row:
    done = sorted((t for t in trials if t.status == "done"), key=lambda trial: trial.seed)
    accuracies = [accuracy for trial in done for accuracy in trial.accuracies]
    return Row(
        label=trials[0].label,
        options=trials[0].options,
        mean=statistics.fmean(accuracies) if accuracies else None,
        std=statistics.pstdev(accuracies) if accuracies else 0.0,
        seed_means={t.seed: statistics.fmean(t.accuracies) for t in done if t.accuracies},
        networks=len(accuracies),
        seconds=sum(trial.seconds for trial in trials),
        iterations=max(trial.iterations for trial in trials),
        stopped=sum(trial.status == "stopped" for trial in trials),
        causes=tuple(trial.cause for trial in trials if trial.status == "failed"),
    )
