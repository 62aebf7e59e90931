"""What a run will take, told before it starts: its own parts are tried for a few seconds.

Nothing is written but the cache of decoded images, which the run would write too.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from idm_ray.arithmetic import choose_numerics
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.data.sources import source_bytes
from idm_ray.errors import UserError
from idm_ray.estimation.costs import (
    Prediction,
    Rates,
    assume_gpu,
    gpu_of,
    parts_of,
    predict,
)
from idm_ray.estimation.probe import measure
from idm_ray.estimation.timing import Timing
from idm_ray.evaluation_jobs import all_jobs
from idm_ray.execution import Listener
from idm_ray.layout import Crew, condensing_work, cut_groups
from idm_ray.machine import Capabilities
from idm_ray.plan import Plan
from idm_ray.progress import Announcement
from idm_ray.resolving import resolve
from idm_ray.run import describe_numerics, make_runner
from idm_ray.scaling import (
    H100,
    Parts,
    best_trainers,
    crew_on,
    crew_with_trainers,
    iteration_time,
    layout_on,
)
from idm_ray.work import Work, count_work

PROBE_S = 20.0

# A probe that gets less of its processors than this tells of its neighbours as much as of the run.
QUIET_SHARE = 0.8

MEASURED = "measured here"
SCALED = "measured on one GPU here, shared out"
ASSUMED = "NOT measured, arithmetic"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """A run on some hardware.

    Attributes:
        where: which.
        basis: what the figures rest on.
        start_s: until the first iteration begins: loading, connecting, starting processes; not
            decoding the data, which is done now.
        total_s: all in all.
        prediction: its parts, and memory.
    """

    where: str
    basis: str
    start_s: float
    total_s: float
    prediction: Prediction


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What a run will take.

    Attributes:
        source: name of the data.
        method: of condensing.
        ipc: images per class.
        iterations: of condensing.
        network: that is matched, trained and evaluated.
        device: cpu or cuda.
        precision: of the networks.
        compile: whether they are compiled.
        threads: of each process that computes.
        flops: floating-point operations, by part.
        data_bytes: by what: files of the source (read once, to decode them), the decoded cache on
            disk, decoded images taken from it by condensing and by evaluation, and one full
            checkpoint (synthetic images, networks of the queue, and the velocities of both).
        here: the run on this hardware.
        scaled: the run on as many GPUs as were asked for, if they were.
        timings: what was measured, by part.
        probe_s: how long measuring took.
        cpu_share: how much of its threads' time the probe was computing.
    """

    source: str
    method: str
    ipc: int
    iterations: int
    network: str
    device: str
    precision: str
    compile: bool
    threads: int
    flops: Mapping[str, float]
    data_bytes: Mapping[str, int]
    here: Outlook
    scaled: Outlook | None
    timings: Mapping[str, Timing]
    probe_s: float
    cpu_share: float


def estimate(
    *,
    gpus: int | None = None,
    probe_s: float = PROBE_S,
    listener: Listener = lambda event: None,
    **options: Any,
) -> Estimate:
    """Say what a run would take, from a short probe of its parts.

    Args:
        gpus: tell the same for so many GPUs; measured where there is one here, else arithmetic.
        probe_s: how long to measure, besides starting and compiling.
        listener: is told what happens, as it happens.
        **options: those of `idm_ray.condense`.

    Raises:
        UserError: wrong options, data or resources.
        NonFiniteLossError: the images diverge within the probe.

    >>> found = idm_ray.estimate(ipc=1, probe_s=0.5, local=True)
    >>> found.here.total_s > 0
    True
    """
    if not (math.isfinite(probe_s) and probe_s > 0):
        raise UserError(f"probe_s must be a finite number above 0, got {probe_s:g}")
    config, info, notes = resolve(options)
    if gpus is not None:
        _check_scaling(config, info, gpus)
    for note in notes:
        listener(note)
    began = time.perf_counter()
    plan, crew_here, where = _start_and_stop(config, info, listener)
    started_s = time.perf_counter() - began
    listener(Announcement(f"measuring for about {probe_s:g} s, besides first times"))
    work = count_work(plan, all_jobs(config))
    measured = measure(plan, work, budget_s=probe_s)
    if plan.numerics.device == "cpu" and measured.cpu_share < QUIET_SHARE:
        text = (
            f"the probe got {100 * measured.cpu_share:.0f} % of its processor time; if others "
            "are using this machine, times hold only as long as they go on"
        )
        listener(Announcement(text, warning=True))
    start_s = measured.rates.process_s + started_s
    scaled = None
    if gpus is not None:
        rates, basis = _rates_on_gpus(plan, work, measured.rates)
        if work.iterations:
            listener(Announcement(describe_balance(plan, parts_of(work, rates), gpus)))
        crew = crew_on(config.machine, plan.groups, gpus)
        prediction = predict(work, rates, crew)
        scaled = _outlook(_describe_crew(crew, gpus), basis, start_s, prediction)
    return Estimate(
        source=info.name,
        method=config.condense.method,
        ipc=config.condense.ipc,
        iterations=config.condense.iterations,
        network=config.condense.network,
        device=plan.numerics.device,
        precision=plan.numerics.precision,
        compile=plan.numerics.compile,
        threads=plan.numerics.threads,
        flops={
            "pretrain": work.pretrain_flops,
            "condense": work.condense_flops,
            "evaluate": work.evaluate_flops,
        },
        data_bytes=_data_bytes(config, work),
        here=_outlook(where, MEASURED, start_s, predict(work, measured.rates, crew_here)),
        scaled=scaled,
        timings=measured.timings,
        probe_s=measured.seconds,
        cpu_share=measured.cpu_share,
    )


def _start_and_stop(
    config: RunConfig, info: DatasetInfo, listener: Listener
) -> tuple[Plan, Crew, str]:
    """Start a run as `condense` would, and end it before its first iteration.

    So everything is decided, refused and timed as in the run itself, but for pretraining, which
    would take as long as it takes the run.
    """
    pixels = condensing_work(config, info.image_shape, info.train_counts)
    runner = make_runner(config.replace(pretrained=0), info, pixels=pixels)
    try:
        for line in (*runner.notes, describe_numerics(runner.plan)):
            listener(Announcement(line))
        for event in () if runner.plan.selects else runner.start():
            listener(event)
        if runner.plan.numerics.device == "cuda" and not torch.cuda.is_available():
            raise UserError(
                "expected a GPU in this process to measure on, as the run's processes have; start "
                "this command on a node with a GPU, or use --device cpu"
            )
        plan = dataclasses.replace(runner.plan, config=config)
        return plan, runner.crew, runner.where
    finally:
        runner.close()


def _check_scaling(config: RunConfig, info: DatasetInfo, gpus: int) -> None:
    if gpus < 1:
        raise UserError(f"gpus must be at least 1, got {gpus}")
    if config.machine.device == "cpu" or config.machine.gpus_per_actor == 0:
        raise UserError(
            f"gpus {gpus} asks about a run on GPUs, but the run is told to use none; leave out "
            "--device cpu and --gpus-per-actor 0"
        )
    groups = cut_groups(info.num_classes, int(config.condense.classes_per_group))
    layout = layout_on(config.machine, len(groups), gpus)
    each, processes = layout.gpus_per_actor, layout.actors + 1
    # A process has parts of one GPU, or whole ones.
    room = int(gpus // each) if each > 1 else gpus * int(1 / each)
    if processes > room:
        raise UserError(
            f"expected at most {room} processes of {each:g} GPU each on {gpus} GPUs, got "
            f"{processes} (class actors and the model queue); use more --gpus, fewer --actors or "
            "less in --gpus-per-actor"
        )


def _rates_on_gpus(plan: Plan, work: Work, measured: Rates) -> tuple[Rates, str]:
    """Rates of one GPU, and what they rest on: measured where there is one here, else assumed."""
    if plan.numerics.device == "cuda":
        return measured, SCALED
    found = Capabilities(device="cuda", name=H100.name, bfloat16=True, obstacle="")
    pixels = condensing_work(plan.config, plan.info.image_shape, plan.info.train_counts)
    numerics = choose_numerics(
        plan.config.machine, [found], threads=plan.numerics.threads, pixels=pixels
    )
    plan = dataclasses.replace(plan, numerics=numerics)
    return assume_gpu(plan, work, measured), _describe_assumed(plan)


def _describe_assumed(plan: Plan) -> str:
    gpu = gpu_of(plan)
    compiling = f", {gpu.compile_s:g} s to compile" if plan.numerics.compile else ""
    return (
        f"{ASSUMED}: {gpu.name} moving {gpu.bytes_per_s / 1e12:g} TB/s, {plan.numerics.precision}, "
        f"{1e3 * gpu.pass_s:g} ms a forward pass{compiling}"
    )


def _describe_crew(crew: Crew, gpus: int) -> str:
    num_actors = len(crew.shares) - 1
    actors = f"{num_actors} class actor{'s' * (num_actors > 1)}"
    return f"{gpus} GPU{'s' * (gpus > 1)}: {actors} and the model queue"


def describe_balance(plan: Plan, parts: Parts, gpus: int) -> str:
    """What sets the time of an iteration, and whether more trainers than one would help."""
    now = iteration_time(parts, crew_on(plan.config.machine, plan.groups, gpus))
    side = "taking turns on GPUs" if now.bottleneck == "devices" else now.bottleneck
    text = f"with {gpus} GPU{'s' * (gpus > 1)}, {side} would set the time of an iteration"
    trainers = best_trainers(parts, plan.groups, gpus)
    if trainers == 1:
        return text
    best = iteration_time(parts, crew_with_trainers(plan.groups, gpus, trainers))
    return (
        f"{text}, {now.seconds:.3g} s; {trainers} trainers would make it {best.seconds:.3g} s, but "
        "this version has one"
    )


def _outlook(where: str, basis: str, start_s: float, found: Prediction) -> Outlook:
    condense_s = found.pretrain_s + found.first_s + found.condense_s
    total = start_s + condense_s + found.evaluate_first_s + found.evaluate_s
    return Outlook(where=where, basis=basis, start_s=start_s, total_s=total, prediction=found)


def _data_bytes(config: RunConfig, work: Work) -> dict[str, int]:
    return {
        "source": source_bytes(config.data),
        "cache": work.cache_bytes,
        "condense_read": work.condense_read_bytes,
        "evaluate_read": work.evaluate_read_bytes,
        "checkpoint": work.checkpoint_bytes,
    }
