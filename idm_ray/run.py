"""A whole run: from options to a run's folder with the condensed set and what it is worth."""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from idm_ray import recipes
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.data.sources import locate
from idm_ray.layout import settle
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.progress import Announcement, Evaluated, Progress
from idm_ray.report import (
    SUBJECTS,
    RateMeter,
    make_card,
    metrics_line,
    provenance,
    summarise,
)
from idm_ray.results.card import Card
from idm_ray.results.condensed import replace_card
from idm_ray.results.run_folder import RunFolder, next_free
from idm_ray.workers import Images


@dataclass(frozen=True, slots=True)
class Started:
    """Condensation or evaluation begins: `total` iterations or networks."""

    what: str
    total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over."""

    folder: Path
    summary: Mapping[str, Any]


Event = Announcement | Started | Progress | Evaluated | Finished
Listener = Callable[[Event], None]


class Runner(Protocol):
    """What runs a settled config: `LocalRunner` or `RayRunner`."""

    plan: Plan
    notes: tuple[str, ...]
    peak_memory_bytes: int

    def condense(self) -> Iterator[Announcement | Progress | Evaluated]:
        """Run all iterations."""

    def adopt(self, images: Images) -> None:
        """Take finished images (N, C, H, W) instead of condensing some."""

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[Evaluated]:
        """Train and test networks."""

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery."""

    def close(self) -> None:
        """Let go of all resources."""


def condense(
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = lambda event: None,
    **options: Any,
) -> Finished:
    """Condense a data set and say how good the result is.

    Args:
        out: folder of the run; by default runs/SOURCE-METHOD-ipcN-n.
        overwrite: replace the run that `out` holds.
        listener: is told what happens, as it happens.
        **options: any options of `idm_ray.config`, by their flat names.

    Returns:
        The run's folder and its summary (the content of summary.json).

    Raises:
        UserError: wrong options, data or resources.
        NonFiniteLossError: the images diverged.
        ActorLostError: a process of the run died.
    """
    # Wrong values are refused before any data is read; lambda_reg depends on the recipe.
    info = open_dataset(RunConfig.from_flat({"lambda_reg": 0.0, **options}).data).info
    config, notes = _resolve(options, info)
    folder = RunFolder.create(out or _default_folder(config, info), overwrite=overwrite)
    for note in (*notes, Announcement(f"writing to {folder.path}")):
        listener(note)
    runner = make_runner(config, info)
    try:
        for line in runner.notes:
            listener(Announcement(line))
        listener(Announcement(_describe_numerics(runner.plan)))
        return _run(runner, folder, listener)
    finally:
        runner.close()


def _run(runner: Runner, folder: RunFolder, listener: Listener) -> Finished:
    plan = runner.plan
    folder.write_config(provenance(plan))
    began = time.perf_counter()
    listener(Started("condense", plan.config.condense.iterations))
    rate = RateMeter(plan)
    for event in runner.condense():
        seconds = time.perf_counter() - began
        if not isinstance(event, Announcement):
            folder.log(metrics_line(event, seconds) | rate.measure(event, seconds))
        listener(event)
    seconds = time.perf_counter() - began
    # The result is safe before its evaluation, which takes longer than condensing small sets.
    runner.write(folder.path, make_card(plan, evaluation=None))
    accuracies = _evaluate(runner, folder, listener)
    summary = summarise(plan, seconds, runner.peak_memory_bytes, accuracies)
    replace_card(folder.condensed_path, make_card(plan, evaluation=summary["evaluation"]))
    folder.write_summary(summary)
    finished = Finished(folder.path, summary)
    listener(finished)
    return finished


def _evaluate(runner: Runner, folder: RunFolder, listener: Listener) -> dict[str, list[float]]:
    """Accuracies by subject, in the order of the repeats."""
    jobs = _final_jobs(runner.plan.config)
    began = time.perf_counter()
    found: dict[EvaluationJob, float] = {}
    listener(Started("evaluate", len(jobs)))
    for event in runner.evaluate(jobs):
        folder.log(metrics_line(event, time.perf_counter() - began))
        listener(event)
        found[event.job] = event.accuracy
    accuracies: dict[str, list[float]] = {}
    for job in jobs:
        accuracies.setdefault(job.subject, []).append(found[job])
    return accuracies


def _resolve(options: Mapping[str, Any], info: DatasetInfo) -> tuple[RunConfig, list[Announcement]]:
    """Options to a settled config, and what there is to say about it."""
    facts = recipes.Facts(
        known_as=info.known_as, image_shape=info.image_shape, train_counts=info.train_counts
    )
    resolved, recipe, unused = recipes.resolve_options(options, facts)
    resolved["data"] = locate(info.source)
    config = settle(RunConfig.from_flat(resolved), info.image_shape, info.num_classes)
    notes = [
        Announcement(
            f"{info.name}: {info.num_classes} classes, {sum(info.train_counts)} training and "
            f"{sum(info.test_counts)} test images of {'x'.join(map(str, info.image_shape))}"
        ),
        Announcement(f"recipe {recipe.name}: {recipe.origin}"),
    ]
    if info.skipped:
        some = "; ".join(info.unreadable)
        notes.append(Announcement(f"left out {info.skipped} unreadable images: {some}", True))
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        notes.append(
            Announcement(f"method {config.condense.method} does not use {names}: ignored", True)
        )
    return config, notes


def _default_folder(config: RunConfig, info: DatasetInfo) -> Path:
    return next_free("runs", f"{info.name}-{config.condense.method}-ipc{config.condense.ipc}")


def make_runner(config: RunConfig, info: DatasetInfo) -> Runner:
    """The runner that a settled config asks for, its resources reserved."""
    # Each runner is heavy, and the local one must work where there is no Ray.
    if config.machine.local:
        kind = importlib.import_module("idm_ray.local").LocalRunner
    else:
        kind = importlib.import_module("idm_ray.runtime.driver").RayRunner
    runner: Runner = kind(config, info, _marks(config))
    return runner


def _marks(config: RunConfig) -> dict[int, tuple[EvaluationJob, ...]]:
    """Evaluations during the run: after which iteration, and which networks."""
    every, iterations = config.evaluation.eval_interval, config.condense.iterations
    at = range(every, iterations, every) if every else ()
    return {iteration: _jobs("condensed", config.evaluation.repeats, iteration) for iteration in at}


def _final_jobs(config: RunConfig) -> tuple[EvaluationJob, ...]:
    """Networks to train at the end; the longest first, so that they do not finish last."""
    repeats, iterations = config.evaluation.repeats, config.condense.iterations
    whole = _jobs("whole", 1 if repeats and config.evaluation.whole_epochs else 0, iterations)
    return sum((_jobs(subject, repeats, iterations) for subject in SUBJECTS), whole)


def _jobs(subject: Any, repeats: int, iteration: int) -> tuple[EvaluationJob, ...]:
    return tuple(
        EvaluationJob(subject=subject, repeat=repeat, iteration=iteration)
        for repeat in range(repeats)
    )


def _describe_numerics(plan: Plan) -> str:
    numerics = plan.numerics
    how = "compiled" if numerics.compile else "not compiled"
    return (
        f"{plan.config.condense.network} in {numerics.precision}, {how}; {len(plan.groups)} groups "
        f"of up to {len(plan.groups[0])} classes"
    )
