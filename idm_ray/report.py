"""What a run says of itself: metrics, summary, card, and where its numbers come from."""

import contextlib
import dataclasses
import importlib.metadata
import platform
import shlex
import subprocess  # nosec B404 # only lists of words, never a shell
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from idm_ray import __version__
from idm_ray.algorithm.model_queue import ModelQueue
from idm_ray.algorithm.model_start import draw_start
from idm_ray.passwords import hide_passwords
from idm_ray.plan import Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import Committed, Evaluated, Progress, Record
from idm_ray.results.card import Card
from idm_ray.results.run_config import FORMAT
from idm_ray.storage import shown

# What a condensed set is compared with under the same protocol, and the set itself.
SUBJECTS = ("condensed", "start", "random")


def make_card(plan: Plan, evaluation: Mapping[str, Any] | None) -> Card:
    """What the condensed set says of itself."""
    condense, info = plan.config.condense, plan.info
    return Card(
        image_shape=info.image_shape,
        mean=info.mean,
        std=info.std,
        partition=condense.partition,
        class_names=info.class_names,
        ipc=condense.ipc,
        method=condense.method,
        recipe=plan.config.recipe,
        network=condense.network,
        flips=info.flips,
        seed=condense.seed,
        iterations=condense.iterations,
        protocol={
            "name": plan.config.evaluation.protocol,
            "epochs": plan.config.evaluation.eval_epochs,
            "lr_net": plan.config.queue.lr_net,
            "batch_train": plan.config.queue.batch_train,
            "repeats": plan.config.evaluation.repeats,
        },
        evaluation=evaluation,
        source={"name": info.name, "fingerprint": info.fingerprint},
        versions=_versions(),
    )


def summarise(plan: Plan, record: Record, accuracies: Mapping[str, list[float]]) -> dict[str, Any]:
    """The content of summary.json.

    Args:
        plan: of the run.
        record: what the run has to show.
        accuracies: by subject, in the order of the repeats.
    """
    seconds, busy = record.seconds, record.busy
    condense, evaluation = plan.config.condense, plan.config.evaluation
    protocol = {
        "network": condense.network,
        "protocol": evaluation.protocol,
        "epochs": evaluation.eval_epochs,
        "split": evaluation.eval_split,
    }
    results: dict[str, Any] = {
        subject: protocol | statistics(accuracies[subject]) if subject in accuracies else None
        for subject in SUBJECTS
    }
    if results["condensed"]:
        results["condensed"] |= {"selected_on": "last"}
    whole = accuracies.get("whole")
    return {
        "method": condense.method,
        "source": plan.info.name,
        "num_classes": plan.info.num_classes,
        "ipc": condense.ipc,
        "ratio": condense.ipc * plan.info.num_classes / sum(plan.info.train_counts),
        "iterations": condense.iterations,
        "seconds": seconds,
        "seconds_per_iteration": seconds / condense.iterations if condense.iterations else None,
        "busy_seconds": {
            "matching": busy.matching_s,
            "training": busy.training_s,
            "longest_path": busy.path_s,
        },
        "ray_share": None
        if plan.config.machine.local or plan.selects
        else 1 - busy.path_s / seconds,
        "peak_rss_bytes": record.peak_memory_bytes,
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


def metrics_line(event: Progress | Evaluated, seconds: float) -> dict[str, Any]:
    """One line of metrics.jsonl.

    Args:
        event: what there is to tell.
        seconds: since condensing began.
    """
    if isinstance(event, Evaluated):
        job = dataclasses.asdict(event.job)
        return {"seconds": round(seconds, 3), **job, "accuracy": event.accuracy}
    return {
        "iteration": event.iteration,
        "seconds": round(seconds, 3),
        **event.losses,
        **event.queue,
        "waiting": event.waiting,
        **event.data,
    }


def commit_line(event: Committed) -> dict[str, Any]:
    """One line of metrics.jsonl, for a checkpoint."""
    return {
        "checkpoint": event.number,
        "at_iteration": event.iteration,
        "checkpoint_bytes": event.bytes,
        "written_bytes": event.written_bytes,
        "checkpoint_seconds": round(event.seconds, 3),
    }


class RateMeter:
    """Images through networks per second, since the last report.

    Args:
        plan: of the run.
        iteration: where it begins, or goes on.
        seconds: of condensing before that.
    """

    def __init__(self, plan: Plan, iteration: int = 0, seconds: float = 0.0) -> None:
        condense, info = plan.config.condense, plan.info
        real = sum(min(condense.batch_real, count) for count in info.train_counts)
        tiles = info.num_classes * condense.ipc * condense.partition**2
        self._per_iteration = (real + tiles) * condense.num_matched_models * plan.rounds
        self._iteration, self._seconds = iteration, seconds

    def measure(self, event: Progress | Evaluated, seconds: float) -> dict[str, float]:
        """The rate up to a report of progress; nothing for an evaluation."""
        if isinstance(event, Evaluated):
            return {}
        matched = (event.iteration - self._iteration) * self._per_iteration
        images = matched + event.queue.get("trained_images", 0)
        rate = images / max(seconds - self._seconds, 1e-9)
        self._iteration, self._seconds = event.iteration, seconds
        return {"images_per_s": round(rate, 1)}


def pretrained_line(report: PretrainReport) -> dict[str, Any]:
    """One line of metrics.jsonl, for a pretrained network."""
    return {
        "pretrained": report.member,
        "steps": report.steps,
        "train_accuracy": report.accuracy,
        "pretrain_seconds": round(report.seconds, 3),
        "cached": report.cached,
    }


def pretrained_text(report: PretrainReport) -> str:
    """The same for people."""
    took = "from the cache" if report.cached else f"{report.seconds:.1f} s"
    kept = f", not kept for the next run ({report.obstacle})" if report.obstacle else ""
    return (
        f"pretrained network {report.member}: {report.steps} steps, training accuracy "
        f"{100 * report.accuracy:.1f} %, {took}{kept}"
    )


class PushLog:
    """What each copy of a pretrained network in the queue begins with.

    The queue's decisions are made again here, so that they need not be sent.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        condense, queue = plan.config.condense, plan.config.queue
        # Without a queue, copies live for one iteration and are not trained.
        self._has_copies = bool(queue.pretrained and queue.queue_size)
        self._queue = ModelQueue(
            queue, num_matched_models=condense.num_matched_models, seed=condense.seed
        )
        self._new = self._queue.ids
        self._iteration = 0

    def up_to(self, event: Progress | Evaluated) -> Iterator[dict[str, Any]]:
        """A line of metrics.jsonl for each model that entered up to a report of progress."""
        if not self._has_copies or isinstance(event, Evaluated):
            return
        # A run that went back reports once more what was told already.
        for iteration in range(self._iteration, event.iteration):
            self._new += self._queue.plan(iteration).pushed
            for model in self._new:
                yield {"iteration": iteration, "pushed": model} | self._start(model)
            self._new = ()
        self._iteration = max(self._iteration, event.iteration)

    def _start(self, model: int) -> dict[str, Any]:
        start = draw_start(
            self._plan.config.queue,
            model,
            num_classes=self._plan.info.num_classes,
            seed=self._plan.config.condense.seed,
        )
        return {"member": start.member, "lr": start.lr, "num_classes": len(start.classes)}


def provenance(plan: Plan, processors: Sequence[str]) -> dict[str, Any]:
    """The content of config.yaml: what is needed to make the same numbers again.

    Args:
        plan: of the run.
        processors: names of what it is computed on.
    """
    options = plan.config.flat()
    options |= {
        "data": shown(plan.config.data.data),
        "device": plan.numerics.device,
        "precision": plan.numerics.precision,
        "compile": "on" if plan.numerics.compile else "off",
        "threads": plan.numerics.threads,
    }
    return {
        "format": FORMAT,
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
        "numerics": dataclasses.asdict(plan.numerics),
        "processors": list(processors),
        **made_by(),
    }


def made_by() -> dict[str, Any]:
    """What makes numbers now: the command, versions of packages, and the commit of this one."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *map(hide_passwords, sys.argv[1:])]),
        "versions": _versions(),
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    found = {"idm_ray": __version__}
    for name in ("torch", "ray", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found | {"python": platform.python_version()}


def _commit() -> str | None:
    """The commit of this checkout, marked if files were changed; None for an installed package."""
    package = Path(__file__).parent
    if not (package.parent / ".git").exists():
        # Installed inside somebody else's repository, its commit would say nothing of ours.
        return None
    try:
        done = subprocess.run(  # nosec B603 B607 # the user's own git, on our own folder
            ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
