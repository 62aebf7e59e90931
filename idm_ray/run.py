"""A whole run: from options to a run's folder with the condensed set and what it is worth."""

import dataclasses
import importlib
import importlib.metadata
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from idm_ray import recipes
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.data.sources import locate
from idm_ray.layout import settle
from idm_ray.progress import Announcement, Evaluated, Progress
from idm_ray.results.card import Card
from idm_ray.results.condensed import replace_card
from idm_ray.results.run_folder import RunFolder, next_free
from idm_ray.workers import EvaluationJob, Images, Plan

SUBJECTS = ("condensed", "start", "random")


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
    folder.write_config(_provenance(plan))
    began = time.perf_counter()
    listener(Started("condense", plan.config.condense.iterations))
    rate = _RateMeter(plan)
    for event in runner.condense():
        seconds = time.perf_counter() - began
        if not isinstance(event, Announcement):
            folder.log(_metrics_line(event, seconds) | rate.measure(event, seconds))
        listener(event)
    seconds = time.perf_counter() - began
    # The result is safe before its evaluation, which takes longer than condensing small sets.
    runner.write(folder.path, make_card(plan, evaluation=None))
    accuracies = _evaluate(runner, folder, listener)
    summary = _summary(plan, seconds, runner.peak_memory_bytes, accuracies)
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
        folder.log(_metrics_line(event, time.perf_counter() - began))
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


def make_card(plan: Plan, evaluation: Mapping[str, Any] | None) -> Card:
    """What the condensed set says of itself."""
    condense_, info = plan.config.condense, plan.info
    return Card(
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        partition=condense_.partition,
        class_names=info.class_names,
        ipc=condense_.ipc,
        method=condense_.method,
        recipe=plan.config.recipe,
        network=condense_.network,
        depth=int(condense_.network.split("-")[1]),
        flips=info.flips,
        seed=condense_.seed,
        iterations=condense_.iterations,
        protocol={
            "name": "paper",
            "epochs": plan.config.evaluation.eval_epochs,
            "lr_net": plan.config.queue.lr_net,
            "batch_train": plan.config.queue.batch_train,
            "repeats": plan.config.evaluation.repeats,
        },
        evaluation=evaluation,
        source={"name": info.name, "fingerprint": info.fingerprint},
        versions=_versions(),
    )


def _summary(
    plan: Plan, seconds: float, peak_memory_bytes: int, accuracies: Mapping[str, list[float]]
) -> dict[str, Any]:
    condense_, evaluation = plan.config.condense, plan.config.evaluation
    protocol = {
        "network": condense_.network,
        "protocol": "paper",
        "epochs": evaluation.eval_epochs,
    }
    results: dict[str, Any] = {
        subject: protocol | statistics(accuracies[subject]) if subject in accuracies else None
        for subject in SUBJECTS
    }
    if results["condensed"]:
        results["condensed"] |= {"selected_on": "last"}
    whole = accuracies.get("whole")
    return {
        "method": condense_.method,
        "source": plan.info.name,
        "num_classes": plan.info.num_classes,
        "ipc": condense_.ipc,
        "ratio": condense_.ipc * plan.info.num_classes / sum(plan.info.train_counts),
        "iterations": condense_.iterations,
        "seconds": seconds,
        "seconds_per_iteration": seconds / condense_.iterations,
        "peak_rss_bytes": peak_memory_bytes,
        "device": plan.numerics.device,
        "precision": plan.numerics.precision,
        "evaluation": results["condensed"],
        "start": results["start"],
        "random": results["random"],
        "whole": whole and protocol | {"epochs": evaluation.whole_epochs} | statistics(whole),
    }


def statistics(accuracies: Sequence[float]) -> dict[str, Any]:
    """Mean and population deviation, as fractions, and the values behind them."""
    return {
        "repeats": len(accuracies),
        "mean": float(np.mean(accuracies)),
        "std": float(np.std(accuracies)),
        "accuracies": list(accuracies),
    }


def _metrics_line(event: Progress | Evaluated, seconds: float) -> dict[str, Any]:
    if isinstance(event, Evaluated):
        job = dataclasses.asdict(event.job)
        return {"seconds": round(seconds, 3), **job, "accuracy": event.accuracy}
    return {
        "iteration": event.iteration,
        "seconds": round(seconds, 3),
        **event.losses,
        **event.queue,
        "waiting": event.waiting,
    }


class _RateMeter:
    """Images through networks per second, since the last report."""

    def __init__(self, plan: Plan) -> None:
        condense_, info = plan.config.condense, plan.info
        real = sum(min(condense_.batch_real, count) for count in info.train_counts)
        tiles = info.num_classes * condense_.ipc * condense_.partition**2
        self._per_iteration = (real + tiles) * condense_.num_matched_models
        self._iteration, self._seconds = 0, 0.0

    def measure(self, event: Progress | Evaluated, seconds: float) -> dict[str, float]:
        """The rate up to a report of progress; nothing for an evaluation."""
        if isinstance(event, Evaluated):
            return {}
        matched = (event.iteration - self._iteration) * self._per_iteration
        images = matched + event.queue.get("trained_images", 0)
        rate = images / max(seconds - self._seconds, 1e-9)
        self._iteration, self._seconds = event.iteration, seconds
        return {"images_per_s": round(rate, 1)}


def _describe_numerics(plan: Plan) -> str:
    numerics = plan.numerics
    how = "compiled" if numerics.compile else "not compiled"
    return (
        f"{plan.config.condense.network} in {numerics.precision}, {how}; {len(plan.groups)} groups "
        f"of up to {len(plan.groups[0])} classes"
    )


def _provenance(plan: Plan) -> dict[str, Any]:
    """The content of config.yaml: what is needed to make the same numbers again."""
    options = plan.config.flat()
    options |= {
        "device": plan.numerics.device,
        "precision": plan.numerics.precision,
        "compile": "on" if plan.numerics.compile else "off",
        "threads": plan.numerics.threads,
    }
    return {
        "options": options,
        "data": {
            "name": plan.info.name,
            "known_as": plan.info.known_as,
            "fingerprint": plan.info.fingerprint,
            "image_shape": list(plan.info.image_shape),
            "num_classes": plan.info.num_classes,
            "mean": list(plan.info.mean),
            "std": list(plan.info.std),
        },
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": _versions(),
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    packages = ("idm_ray", "torch", "ray", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return found | {"python": platform.python_version()}


def _commit() -> str | None:
    """The commit of this checkout, marked if files were changed; None for an installed package."""
    package = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
