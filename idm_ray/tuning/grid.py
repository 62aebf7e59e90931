"""The runs of a grid: every point with every seed, but each run once."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import UserError
from idm_ray.layout import condensing_work
from idm_ray.resolving import settled
from idm_ray.results.run_config import parse_config
from idm_ray.same_numbers import differences
from idm_ray.searches.job import Job
from idm_ray.searches.queue_sequence import shared_queue_key
from idm_ray.searches.same_runs import Selection
from idm_ray.searches.search import Point
from idm_ray.searches.trials import TrialResult
from idm_ray.storage import Location

TRIALS = "trials"
"""Folder of the runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridTrial:
    """One point of a search with one seed.

    Attributes:
        search: its name.
        point: of the search.
        seed: of the run.
        job: the run; that of an earlier trial, if it is the same.
    """

    search: str
    point: Point
    seed: int
    job: Job

    @property
    def result(self) -> TrialResult:
        """What there is to say of it when it begins."""
        return TrialResult(
            search=self.search,
            label=self.point.label,
            options=self.point.options,
            seed=self.seed,
            status="running",
            folder=self.job.name,
        )


def grid_trials(
    selections: Sequence[Selection],
    options: Mapping[str, Any],
    info: DatasetInfo,
    seeds: Sequence[int],
) -> list[GridTrial]:
    """All trials of some searches, in their order.

    Args:
        selections: of the searches.
        options: of all runs.
        info: of the data.
        seeds: of each point.
    """
    jobs: dict[RunConfig, Job] = {}
    trials = []
    for selection in selections:
        for number, point in enumerate(selection.to_run):
            for seed in seeds:
                config = settled({**options, **point.options, "seed": seed}, info)
                name = f"{TRIALS}/{selection.search.name}-{number}-seed{seed}"
                key = shared_queue_key(config)
                job = jobs.setdefault(config, job_of(name, config, info, queue_key=key))
                trial = GridTrial(search=selection.search.name, point=point, seed=seed, job=job)
                trials.append(trial)
    return list(_with_baselines(_sharing(trials), selections[0]))


def job_of(name: str, config: RunConfig, info: DatasetInfo, *, queue_key: str | None) -> Job:
    """A run as a job."""
    return Job(
        name=name,
        config=config,
        info=info,
        pixels=condensing_work(config, info.image_shape, info.train_counts),
        queue_key=queue_key,
    )


def complete(job: Job, folder: Location) -> Mapping[str, Any] | None:
    """Summary of a job's run; None if it is not complete.

    Raises:
        UserError: it is complete, but the run of other settings or of other data.
    """
    place = folder / job.name
    if not (place / "summary.json").exists():
        return None
    where = f"{place}/config.yaml"
    stored = parse_config((place / "config.yaml").read_bytes(), where)
    others = differences(stored["options"], job.config.flat())
    if stored["data"]["fingerprint"] != job.info.fingerprint:
        others = (*others, "other images")
    if others:
        raise UserError(
            f"expected the run of this search in {place}, found one that differs: "
            f"{'; '.join(others)}; ask for what it was made with, or choose another --out"
        )
    found: Mapping[str, Any] = json.loads((place / "summary.json").read_bytes())
    return found


def _sharing(trials: Sequence[GridTrial]) -> list[GridTrial]:
    """The same, but that a queue which serves one job alone is that job's own."""
    users = Counter(key for key, _ in {(trial.job.queue_key, trial.job.name) for trial in trials})
    return [
        trial
        if users[trial.job.queue_key] > 1
        else replace(trial, job=replace(trial.job, queue_key=None))
        for trial in trials
    ]


def _with_baselines(trials: Sequence[GridTrial], selection: Selection) -> Iterator[GridTrial]:
    """The same, baselines evaluated once for each seed: with the run's own settings if it can."""
    labels = [point.label for point in selection.to_run]
    own = selection.same_as.get(selection.own or "", selection.own)
    label = own if own in labels else labels[0]
    chosen = {
        trial.job.name
        for trial in trials
        if (trial.search, trial.point.label) == (selection.search.name, label)
    }
    for trial in trials:
        config = trial.job.config
        if trial.job.name in chosen:
            config = config.replace(baselines="on")
        yield replace(trial, job=replace(trial.job, config=config))


def ended(result: TrialResult, report: Mapping[str, Any]) -> TrialResult:
    """The result of a run that is complete."""
    return replace(
        result,
        status="done",
        accuracies=tuple(report["accuracies"]),
        seconds=report["seconds"],
        iterations=report["iteration"],
    )


def as_trial(trial: GridTrial, ran: TrialResult) -> TrialResult:
    """The result of a run, as that of one of the trials that it is."""
    blank = trial.result
    return replace(
        ran, search=blank.search, label=blank.label, options=blank.options, seed=blank.seed
    )
