"""Ours and the published implementation in turns, on the same data, each in its own process."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from idm_ray.algorithm.numerics import Numerics
from idm_ray.bench.flops import IterationWork, iteration_work
from idm_ray.bench.process import InProcess
from idm_ray.bench.random_images import write_random_images
from idm_ray.bench.settings import Setting
from idm_ray.bench.sides import OurSide, PublishedSide
from idm_ray.bench.turns import Round, Turn, Turns
from idm_ray.data.dataset import open_dataset
from idm_ray.host import num_cores
from idm_ray.layout import condensing_work, settle
from idm_ray.local import LocalRunner
from idm_ray.machine import look_around
from idm_ray.plan import Plan
from idm_ray.progress import Announcement
from idm_ray.report import provenance

# The published side must train as fast as PyTorch does, to this share.
BARE_TOLERANCE = 0.1

Listener = Callable[[Announcement], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One implementation.

    Attributes:
        seconds: per iteration, median over rounds.
        rounds_s: of each round.
        cpu_s: on processors, per iteration, summed over threads; far less than seconds times
            threads means that the machine was busy with something else.
        parts: seconds per iteration by part, from iterations that were profiled besides.
        images_per_s: through networks, as the method needs them.
        training_images_per_s: while networks of the queue are trained, data and steps included.
        tflop_per_s: useful ones.
        peak_share: of these in a matrix product of the same precision.
        peak_memory_bytes: of its process, or on the GPU.
        precision: of the networks.
        compiled: whether they are.
    """

    seconds: float
    rounds_s: tuple[float, ...]
    cpu_s: float
    parts: dict[str, float]
    images_per_s: float
    training_images_per_s: float
    tflop_per_s: float
    peak_share: float
    peak_memory_bytes: int
    precision: str
    compiled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Both implementations with one setting.

    Attributes:
        setting: its name.
        ratio: published over our seconds, of the medians; None if it is void.
        void: why the ratio is void, or None.
        ratios: of each round.
        ours: this project.
        published: Algorithm 1 as published.
        bare_training_images_per_s: of a loop of nothing but training steps, as published's are.
        warm_up_s: our first iteration, with all compilation; not in the ratio.
        work_tflop: what an iteration needs.
        matmul_tflop_per_s: measured peaks by precision.
        context: machine, versions, commit, command and settings.
    """

    setting: str
    ratio: float | None
    void: str | None
    ratios: tuple[float, ...]
    ours: Result
    published: Result
    bare_training_images_per_s: float
    warm_up_s: float
    work_tflop: float
    matmul_tflop_per_s: dict[str, float]
    context: dict[str, Any]


def compare(
    setting: Setting,
    machine: Mapping[str, Any],
    *,
    rounds: int,
    listener: Listener = lambda event: None,
) -> Comparison:
    """Time both implementations in turns.

    Args:
        setting: what to run.
        machine: flat options of `MachineConfig`; they change our side alone, but for device and
            threads, which hold for both.
        rounds: how often each is timed.
        listener: is told what happens, as it happens.

    Raises:
        UserError: wrong options.
        IdmRayError: a process died.
    """
    # The profiler's library reads this when it is loaded; else it warns where there is no GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")
    with tempfile.TemporaryDirectory(prefix="idm-ray-bench-") as folder:
        listener(Announcement(f"{setting.name}: making random images"))
        plan = make_plan(setting, machine, Path(folder))
        with (
            InProcess(OurSide, plan) as ours,
            InProcess(PublishedSide, plan) as published,
        ):
            turns = Turns(plan, ours, published)
            warm_up_s = turns.warm_up()
            listener(Announcement(f"{setting.name}: our warm-up took {warm_up_s:.1f} s"))
            done: list[Round] = []
            for number in range(rounds):
                done.append(turns.round())
                listener(Announcement(_describe(setting, done[-1], number + 1, rounds)))
            return summarise(setting.name, plan, turns, done, warm_up_s)


def make_plan(setting: Setting, machine: Mapping[str, Any], folder: Path) -> Plan:
    """Make the data, and decide as a whole run on it would.

    Args:
        setting: what to run.
        machine: flat options of `MachineConfig`.
        folder: for the images and their cache; it must exist.

    Raises:
        UserError: wrong options.
    """
    images = folder / "images"
    images.mkdir()
    config = setting.config(images, folder / "cache", machine)
    write_random_images(
        images,
        image_size=setting.image_shape[1:],
        num_classes=setting.num_classes,
        images_per_class=setting.images_per_class,
    )
    info = open_dataset(config.data).info
    config = settle(config, info.image_shape, info.num_classes)
    pixels = condensing_work(config, info.image_shape, info.train_counts)
    return LocalRunner(config, info, {}, pixels=pixels).plan


def summarise(
    name: str, plan: Plan, turns: Turns, done: Sequence[Round], warm_up_s: float
) -> Comparison:
    """Medians of the rounds, and what is measured besides them.

    Args:
        name: of the setting.
        plan: of the run.
        turns: still running.
        done: the rounds.
        warm_up_s: of our first iteration.
    """
    work, memory, parts = iteration_work(plan), turns.peaks(), turns.parts()
    precisions = done[0].matmul_flops_per_s
    peak = {name: max(r.matmul_flops_per_s[name] for r in done) for name in precisions}
    ours = _result([r.ours for r in done], work, parts[0], memory[0], plan.numerics, peak)
    published = _result([r.published for r in done], work, parts[1], memory[1], Numerics(), peak)
    void = why_void(
        [(work.trained_images / r.published.training.training_s, r.bare_images_per_s) for r in done]
    )
    return Comparison(
        setting=name,
        ratio=None if void else published.seconds / ours.seconds,
        void=void,
        ratios=tuple(r.published.seconds / r.ours.seconds for r in done),
        ours=ours,
        published=published,
        bare_training_images_per_s=median(r.bare_images_per_s for r in done),
        warm_up_s=warm_up_s,
        work_tflop=work.flops / 1e12,
        matmul_tflop_per_s={precision: rate / 1e12 for precision, rate in peak.items()},
        context=_context(plan, len(done)),
    )


def why_void(rates: Sequence[tuple[float, float]]) -> str | None:
    """Why the ratio says nothing, or None if it does.

    Args:
        rates: for each round the training images per second of the published side, and those of a
            bare loop of the same network and batch at the same time.
    """
    if abs(median(published / bare for published, bare in rates) - 1) <= BARE_TOLERANCE:
        return None
    published, bare = (median(column) for column in zip(*rates, strict=True))
    return (
        f"the published side trains {published:.1f} images/s, a bare loop {bare:.1f}: they differ "
        f"by more than {100 * BARE_TOLERANCE:.0f} %"
    )


def _result(
    turns: Sequence[Turn],
    work: IterationWork,
    parts: dict[str, float],
    peak_memory_bytes: int,
    numerics: Numerics,
    peak: Mapping[str, float],
) -> Result:
    seconds = median(turn.seconds for turn in turns)
    flops_per_s = work.flops / seconds
    training_s = median(turn.training.training_s for turn in turns)
    return Result(
        seconds=seconds,
        rounds_s=tuple(turn.seconds for turn in turns),
        cpu_s=median(turn.cpu_s for turn in turns),
        parts=parts,
        images_per_s=work.images / seconds,
        training_images_per_s=work.trained_images / training_s,
        tflop_per_s=flops_per_s / 1e12,
        peak_share=flops_per_s / peak[numerics.precision],
        peak_memory_bytes=peak_memory_bytes,
        precision=numerics.precision,
        compiled=numerics.compile,
    )


def _context(plan: Plan, rounds: int) -> dict[str, Any]:
    machine = plan.config.machine
    on_gpu = plan.numerics.device == "cuda"
    found = look_around(machine.device, gpu_assigned=on_gpu, compiling=False)
    return {
        "machine": found.name,
        "cores": num_cores(),
        "threads": plan.numerics.threads,
        "rounds": rounds,
        **provenance(plan, [found.name]),
    }


def _describe(setting: Setting, one: Round, number: int, rounds: int) -> str:
    ours, published = one.ours.seconds, one.published.seconds
    return (
        f"{setting.name}: round {number}/{rounds}: ours {ours:.2f} s, published {published:.2f} s "
        f"per iteration, {published / ours:.1f}x"
    )
