"""A whole run: from options to a run's folder with the condensed set and what it is worth."""

import importlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from idm_ray import recipes
from idm_ray.config import RunConfig
from idm_ray.data.classes import parse_classes, write_classes
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.data.sources import locate
from idm_ray.errors import DataError, StorageError
from idm_ray.layout import Crew, condensing_work, settle
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import Advanced, Announcement, Busy, Evaluated, Progress
from idm_ray.report import (
    SUBJECTS,
    PushLog,
    RateMeter,
    make_card,
    metrics_line,
    pretrained_line,
    pretrained_text,
    provenance,
    summarise,
)
from idm_ray.results.card import Card
from idm_ray.results.condensed import replace_card
from idm_ray.results.run_folder import RunFolder, next_free
from idm_ray.storage import Location, shown
from idm_ray.workers import Images


@dataclass(frozen=True, slots=True)
class Started:
    """Condensation or evaluation begins: `total` iterations or networks."""

    what: str
    total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is over."""

    folder: Path | Location
    """A path, unless the run lies in an object store."""
    summary: Mapping[str, Any]


Event = Announcement | Started | Advanced | Progress | Evaluated | Finished
Listener = Callable[[Event], None]


class Runner(Protocol):
    """What runs a settled config: `LocalRunner` or `RayRunner`."""

    plan: Plan
    crew: Crew
    """The processes it has."""
    where: str
    """Which processes on what hardware, in one line; also among the notes."""
    notes: tuple[str, ...]
    seconds: float
    """Of condensing alone."""
    busy: Busy
    """Of them, those of computing."""
    peak_memory_bytes: int
    """Of all processes that condensed."""

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that the queue's start from, or find them kept; before `start`."""

    def start(self) -> tuple[str, ...]:
        """Start what condenses; lines for people about where it is."""

    def condense(self) -> Iterator[Progress | Evaluated]:
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
        out: folder of the run, by path or URI; by default runs/SOURCE-METHOD-ipcN-n.
        overwrite: replace the run that `out` holds.
        listener: is told what happens, as it happens.
        **options: any options of `idm_ray.config`, by their flat names.

    Returns:
        The run's folder and its summary (the content of summary.json).

    Raises:
        UserError: wrong options, data or resources.
        NonFiniteLossError: the images diverged.
        ActorLostError: a process of the run died.
        StorageError: the folder is remote, and its store went on failing; at the end of the run
            it names the local folder that holds the results.
    """
    config, info, notes = resolve(options)
    out = out or _default_folder(config, info)
    RunFolder.check(out, overwrite=overwrite)
    for note in (*notes, Announcement(f"writing to {shown(out)}")):
        listener(note)
    work = condensing_work(config, info.image_shape, info.train_counts)
    runner = make_runner(config, info, pixels=work)
    try:
        for line in (*runner.notes, describe_numerics(runner.plan)):
            listener(Announcement(line))
        # Not before: what cannot start must not remove an earlier run.
        return _run(runner, RunFolder.create(out, overwrite=overwrite), listener)
    finally:
        runner.close()


def plain_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with paths as text."""
    return {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}


def _run(runner: Runner, folder: RunFolder, listener: Listener) -> Finished:
    plan = runner.plan
    if folder.remote:
        listener(Announcement(f"until it is uploaded, the run is in {folder.path}"))
    folder.start(provenance(plan))
    for report in runner.pretrain():
        folder.log(pretrained_line(report))
        listener(Announcement(pretrained_text(report)))
    for line in runner.start():
        listener(Announcement(line))
    began = time.perf_counter()
    listener(Started("condense", plan.config.condense.iterations))
    rate, pushes = RateMeter(plan), PushLog(plan)
    for event in runner.condense():
        seconds = time.perf_counter() - began
        for pushed in pushes.up_to(event):
            folder.log(pushed)
        folder.log(metrics_line(event, seconds) | rate.measure(event, seconds))
        for note in event.notes if isinstance(event, Progress) else ():
            listener(Announcement(note, warning=True))
        listener(event)
    # The result is safe before its evaluation, which takes longer than condensing small sets.
    runner.write(folder.path, make_card(plan, evaluation=None))
    _publish_early(folder, listener)
    accuracies = _evaluate(runner, folder, listener, began)
    summary = summarise(plan, runner.seconds, runner.busy, runner.peak_memory_bytes, accuracies)
    replace_card(folder.condensed_path, make_card(plan, evaluation=summary["evaluation"]))
    folder.write_summary(summary)
    folder.hand_over()
    finished = Finished(folder.place, summary)
    listener(finished)
    return finished


def _publish_early(folder: RunFolder, listener: Listener) -> None:
    """Publish what is there; a failure now need not be one at the end."""
    try:
        folder.publish()
    except (DataError, StorageError) as error:
        listener(Announcement(f"the upload will be tried again at the end: {error}", True))


def _evaluate(
    runner: Runner, folder: RunFolder, listener: Listener, began: float
) -> dict[str, list[float]]:
    """Accuracies by subject, in the order of the repeats."""
    jobs = final_jobs(runner.plan.config)
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


def resolve(options: Mapping[str, Any]) -> tuple[RunConfig, DatasetInfo, list[Announcement]]:
    """Flat options to a settled config, the data that it was settled for, and notes about both.

    Opens the data, which decodes them if nobody has yet.

    Raises:
        UserError: wrong options or data.
    """
    used, unused = recipes.split_options(plain_values(options))
    # Wrong values are refused before any data is read; lambda_reg depends on the recipe.
    info = open_dataset(RunConfig.from_flat({"lambda_reg": 0.0, **used}).data).info
    config, notes = _settle(used, info)
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        text = f"method {config.condense.method} does not use {names}: ignored"
        notes.append(Announcement(text, warning=True))
    return config, info, notes


def _settle(options: Mapping[str, Any], info: DatasetInfo) -> tuple[RunConfig, list[Announcement]]:
    """Options that the method uses to a settled config, and what there is to say about it."""
    facts = recipes.Facts(
        known_as=info.known_as, image_shape=info.image_shape, train_counts=info.train_counts
    )
    resolved, recipe = recipes.resolve_options(options, facts)
    config = absolute(RunConfig.from_flat(resolved))
    config = settle(config, info.image_shape, info.num_classes)
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
    return config, notes


def absolute(config: RunConfig) -> RunConfig:
    """The config with paths that every process finds, whatever its working directory."""
    data = config.data
    return config.replace(
        data=locate(data.data),
        data_root=_absolute_path(data.data_root),
        classes=data.classes and write_classes(parse_classes(data.classes)),
        cache_dir=_absolute_path(data.cache_dir),
    )


def _absolute_path(written: str | None) -> str | None:
    return written and os.path.abspath(os.path.expanduser(written))


def _default_folder(config: RunConfig, info: DatasetInfo) -> Path:
    return next_free("runs", f"{info.name}-{config.condense.method}-ipc{config.condense.ipc}")


def make_runner(config: RunConfig, info: DatasetInfo, *, pixels: float) -> Runner:
    """The runner that a settled config asks for, its resources reserved.

    Args:
        config: settled.
        info: of the data.
        pixels: through networks, by which compiling is decided.
    """
    # Each runner is heavy, and the local one must work where there is no Ray.
    if config.machine.local:
        kind = importlib.import_module("idm_ray.local").LocalRunner
    else:
        kind = importlib.import_module("idm_ray.runtime.driver").RayRunner
    runner: Runner = kind(config, info, marks(config), pixels=pixels)
    return runner


def marks(config: RunConfig) -> dict[int, tuple[EvaluationJob, ...]]:
    """Evaluations during the run: after which iteration, and which networks."""
    every, iterations = config.evaluation.eval_interval, config.condense.iterations
    at = range(every, iterations, every) if every else ()
    return {iteration: _jobs("condensed", config.evaluation.repeats, iteration) for iteration in at}


def final_jobs(config: RunConfig) -> tuple[EvaluationJob, ...]:
    """Networks to train at the end; the longest first, so that they do not finish last."""
    repeats, iterations = config.evaluation.repeats, config.condense.iterations
    whole = _jobs("whole", 1 if repeats and config.evaluation.whole_epochs else 0, iterations)
    return sum((_jobs(subject, repeats, iterations) for subject in SUBJECTS), whole)


def _jobs(subject: Any, repeats: int, iteration: int) -> tuple[EvaluationJob, ...]:
    return tuple(
        EvaluationJob(subject=subject, repeat=repeat, iteration=iteration)
        for repeat in range(repeats)
    )


def describe_numerics(plan: Plan) -> str:
    """How networks are computed, in one line."""
    numerics = plan.numerics
    how = "compiled" if numerics.compile else "not compiled"
    return (
        f"{plan.config.condense.network} in {numerics.precision}, {how}; {len(plan.groups)} groups "
        f"of up to {len(plan.groups[0])} classes"
    )
