"""Measures how fast this process does the parts of a run, with the workers that the run has.

The only module of `idm-ray estimate` with a clock. The parts are measured one after another in one
process, with the threads that each process of the run gets; nobody else computes meanwhile.
"""

import dataclasses
import itertools
import json
import math
import statistics
import subprocess  # nosec B404 # only lists of words, never a shell
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.evaluate import TrainingImages, accuracy
from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.estimation.costs import Footprint, Rates
from idm_ray.estimation.timing import Timing, is_steady, summarise
from idm_ray.examining import train_network, training_images
from idm_ray.machine import peak_memory_bytes, reset_peak_memory
from idm_ray.plan import EvaluationJob, Plan, Subject
from idm_ray.real_images import RealImages
from idm_ray.work import Work
from idm_ray.workers import ClassWorker, QueueWorker

# One sample of matching or of training takes about so much arithmetic, if a run has as much: a
# second or so on a core, so that several samples fit in the time there is.
SAMPLE_FLOPS = 1e11

# Each part's share of the time there is; the rest is for testing networks.
MATCHING_PART, TRAINING_PART, LESSONS_PART, TEST_PART = 0.35, 0.3, 0.25, 0.1

# Epochs in the first training of a network, the second of which tells how many there is time for.
FIRST_EPOCHS, MAX_EPOCHS = 2, 1000

# Steps of an epoch that are taken for all of them, where there are more.
MAX_STEPS = 8

Forward = Callable[[Tensor], Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Rates, and how well they are known.

    Attributes:
        rates: of this process.
        timings: behind them, by part.
        seconds: that measuring took.
        cpu_share: how much of its threads' time this process was computing; little on a CPU means
            that others were using it.
    """

    rates: Rates
    timings: dict[str, Timing]
    seconds: float
    cpu_share: float


def measure(plan: Plan, work: Work, *, budget_s: float) -> Measured:
    """Measure a run's rates in this process.

    Args:
        plan: of the run.
        work: that it has to do.
        budget_s: how long to measure, besides what is done for the first time; longer where a
            single sample takes longer.
    """
    began = time.perf_counter()
    # Networks train at the same speed whatever they start from.
    plan = dataclasses.replace(plan, config=plan.config.replace(pretrained=0))
    process_s = _process_s(plan)
    idle = _footprint_so_far(plan)
    cpu_began, parts_began = time.process_time(), time.perf_counter()
    measure_first = _measure_looking if plan.selects else _measure_matching
    matching, serving, held_matching = measure_first(plan, work, MATCHING_PART * budget_s)
    training, held_training = _measure_training(plan, work, TRAINING_PART * budget_s)
    lessons, held_evaluating = _measure_lessons(plan, work, budget_s)
    parts_s = time.perf_counter() - parts_began
    cpu_s = time.process_time() - cpu_began
    rates = Rates(
        class_s=0.0 if plan.selects else matching.each_s,
        look_s=matching.each_s if plan.selects else 0.0,
        serve_s=serving.each_s,
        step_s=training.each_s,
        epoch_s={subject: timing.each_s for subject, timing in lessons.epochs.items()},
        job_s=lessons.job_s,
        test_s=lessons.test_s,
        match_first_s=matching.first_s + serving.first_s,
        train_first_s=training.first_s,
        evaluate_first_s=lessons.first_s,
        process_s=process_s,
        idle=idle,
        matching=held_matching,
        training=held_training,
        evaluating=held_evaluating,
    )
    timings = {"choosing" if plan.selects else "matching": matching, "training": training}
    timings |= {f"evaluation, {s}": timing for s, timing in lessons.epochs.items()}
    return Measured(
        rates=rates,
        timings=timings,
        seconds=time.perf_counter() - began,
        cpu_share=cpu_s / (parts_s * plan.numerics.threads),
    )


def _measure_matching(plan: Plan, work: Work, budget_s: float) -> tuple[Timing, Timing, Footprint]:
    """Time of one class in an iteration, time of the queue's part without training, memory.

    Of an iteration of several rounds each sample is one of them.
    """
    queue = QueueWorker(plan)
    group_flops = len(plan.groups[0]) * work.match_flops / plan.rounds
    num_groups = min(len(plan.groups), max(1, int(SAMPLE_FLOPS / group_flops)))
    worker = ClassWorker(plan, range(num_groups))
    num_classes = sum(len(group) for group in plan.groups[:num_groups])
    _forget_peak(plan)
    serving_s: list[float] = []
    matching_s: list[float] = []
    for step in itertools.count():
        iteration, round_ = divmod(step, plan.rounds)
        serve_s, snapshots = _timed(plan, partial(queue.begin, step))
        match_s, _ = _timed(plan, partial(worker.run_round, iteration, round_, snapshots))
        serving_s.append(serve_s)
        matching_s.append(match_s)
        if is_steady(matching_s[1:], budget_s):
            break
    matching = summarise(matching_s[0], matching_s[1:], per=num_classes / plan.rounds)
    return matching, summarise(serving_s[0], serving_s[1:]), _footprint_so_far(plan)


def _measure_looking(plan: Plan, work: Work, budget_s: float) -> tuple[Timing, Timing, Footprint]:
    """Time of embedding one real image, nothing for the queue, memory."""
    if not work.looked_at:
        return Timing(), Timing(), Footprint(host_bytes=0)
    network = FlatNetwork(plan.build_network(), plan.numerics).freeze()
    real, rows = RealImages(plan), np.arange(plan.numerics.images_per_pass)
    rows = rows[: plan.info.train_counts[0]]

    @torch.no_grad()
    def look() -> Tensor:
        return network.features(real.of_class(0, rows))

    _forget_peak(plan)
    samples_s: list[float] = []
    while not is_steady(samples_s[1:], budget_s):
        samples_s.append(_timed(plan, look)[0])
    looking = summarise(samples_s[0], samples_s[1:], per=len(rows))
    return looking, Timing(), _footprint_so_far(plan)


def _measure_training(plan: Plan, work: Work, budget_s: float) -> tuple[Timing, Footprint]:
    """Time of one training step of a network that is matched, and memory."""
    if not (work.train_steps or work.pretrained):
        return Timing(), Footprint(host_bytes=0)
    if plan.rounds > 1:
        return _measure_inner_training(plan, budget_s)
    most = plan.config.queue.train_steps
    steps = min(most, max(1, int(SAMPLE_FLOPS / work.step_flops)))
    # A step of pretraining is one of the queue, whatever the method.
    config = plan.config.replace(
        method="idm", train_interval=1, num_trained_models=1, train_steps=steps
    )
    if not config.queue.queue_size:
        config = config.replace(queue_size=1, queue_init=1)
    queue = QueueWorker(dataclasses.replace(plan, config=config))
    _forget_peak(plan)
    samples_s: list[float] = []
    for iteration in itertools.count():
        queue.begin(iteration)
        samples_s.append(_timed(plan, partial(queue.train, iteration))[0])
        queue.release(iteration + 1)
        if is_steady(samples_s[1:], budget_s):
            break
    return summarise(samples_s[0], samples_s[1:], per=steps), _footprint_so_far(plan)


def _measure_inner_training(plan: Plan, budget_s: float) -> tuple[Timing, Footprint]:
    """The same between the rounds of an iteration; each sample is an epoch."""
    condense = plan.config.condense
    config = plan.config.replace(inner_epochs=1)
    queue = QueueWorker(dataclasses.replace(plan, config=config))
    shape = (plan.info.num_classes, condense.ipc, *plan.info.image_shape)
    images = {0: np.zeros(shape, np.float32)}
    queue.begin(0)
    _forget_peak(plan)
    samples_s: list[float] = []
    while not is_steady(samples_s[1:], budget_s):
        samples_s.append(_timed(plan, partial(queue.go_on, images))[0])
    steps = -(-shape[0] * shape[1] // plan.config.queue.batch_train)
    per = steps * condense.num_matched_models
    return summarise(samples_s[0], samples_s[1:], per=per), _footprint_so_far(plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lessons:
    """Evaluation: epochs by subject, what else a network takes, its test, what comes first."""

    epochs: dict[Subject, Timing]
    job_s: float = 0.0
    test_s: float = 0.0
    first_s: float = 0.0


def _measure_lessons(plan: Plan, work: Work, budget_s: float) -> tuple[_Lessons, Footprint]:
    """Train networks for some epochs, each kind of lesson, and test them a little."""
    if not work.subjects:
        return _Lessons(epochs={}), Footprint(host_bytes=0)
    _forget_peak(plan)
    kinds = {work.lessons[subject]: subject for subject in work.subjects}
    part_s = LESSONS_PART * budget_s / len(kinds)
    found = {lesson: _measure_subject(plan, subject, part_s) for lesson, subject in kinds.items()}
    # The first and the last network that were trained: only the very first test compiles anew.
    forwards = [forward for subject in found.values() for forward in subject.forwards]
    cold = _measure_test(plan, forwards[0], 0.0)
    test = _measure_test(plan, forwards[-1], TEST_PART * budget_s)
    lessons = _Lessons(
        epochs={s: found[work.lessons[s]].epoch for s in dict.fromkeys(work.subjects)},
        job_s=statistics.fmean(one.job_s for one in found.values()) + test.first_s,
        test_s=test.each_s * max(1.0, work.test_images / plan.numerics.images_per_pass),
        first_s=sum(one.epoch.first_s for one in found.values()) + cold.first_s,
    )
    return lessons, _footprint_so_far(plan)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Subject:
    """One kind of lesson: an epoch, what a network takes besides, two trained networks."""

    epoch: Timing
    job_s: float
    forwards: tuple[Forward, Forward]


def _measure_subject(plan: Plan, subject: Subject, budget_s: float) -> _Subject:
    # The images at their start are as many as the condensed ones, and they are there.
    measured: Subject = "start" if subject == "condensed" else subject
    job = EvaluationJob(subject=measured, repeat=0, iteration=0)
    images = training_images(plan, job, RealImages(plan))
    batch = plan.config.queue.batch_train
    few = dataclasses.replace(images, count=min(images.count, MAX_STEPS * batch))
    first, cold = _train(plan, job, few, FIRST_EPOCHS)
    epochs = min(MAX_EPOCHS, max(FIRST_EPOCHS, int(budget_s / cold.epochs_s[1])))
    last, warm = _train(plan, job, few, epochs)
    each_s = [*cold.epochs_s[1:], *warm.epochs_s[1:]]
    mean_s = statistics.fmean(each_s)
    job_s = max(0.0, warm.total_s - epochs * mean_s)
    # An epoch of all images has so many times the steps of what was measured.
    times = math.ceil(images.count / batch) / math.ceil(few.count / batch)
    epoch = summarise(cold.total_s - job_s - (FIRST_EPOCHS - 1) * mean_s, each_s, per=1 / times)
    return _Subject(epoch=epoch, job_s=job_s, forwards=(first, last))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Training:
    """Seconds that training a network took, in all and by epoch."""

    total_s: float
    epochs_s: list[float]


def _train(
    plan: Plan, job: EvaluationJob, images: TrainingImages, epochs: int
) -> tuple[Forward, _Training]:
    config = plan.config.replace(eval_epochs=epochs, whole_epochs=epochs)
    starts_s: list[float] = []

    def take(rows: Tensor) -> tuple[Tensor, Tensor]:
        starts_s.append(_now(plan))
        return images.take(rows)

    began = _now(plan)
    watched = TrainingImages(count=images.count, take=take)
    forward = train_network(dataclasses.replace(plan, config=config), job, watched)
    ended = _now(plan)
    steps = math.ceil(images.count / config.queue.batch_train)
    bounds = [*starts_s[::steps], ended]
    epochs_s = [after - before for before, after in itertools.pairwise(bounds)]
    return forward, _Training(total_s=ended - began, epochs_s=epochs_s)


def _measure_test(plan: Plan, forward: Forward, budget_s: float) -> Timing:
    """Time of one batch of test images, the first apart."""
    real = RealImages(plan)
    batches = itertools.chain.from_iterable(real.test_batches() for _ in itertools.count())
    samples_s: list[float] = []
    while not is_steady(samples_s[1:], budget_s):
        samples_s.append(_timed(plan, lambda: accuracy(forward, itertools.islice(batches, 1)))[0])
    return summarise(samples_s[0], samples_s[1:])


def _process_s(plan: Plan) -> float:
    """Time of starting a process that loads what a run needs and opens the data."""
    program = (
        "import json, sys; import idm_ray.run, idm_ray.local;"
        "from idm_ray.config import DataConfig; from idm_ray.data.dataset import open_dataset;"
        "open_dataset(DataConfig(**json.load(sys.stdin)))"
    )
    data = json.dumps(dataclasses.asdict(plan.config.data))
    began = time.perf_counter()
    # Not as a word of the command, which all users of the machine see: a URI may hold a password.
    command = [sys.executable, "-c", program]
    subprocess.run(command, input=data, text=True, check=True)  # nosec B603 # our own program
    return time.perf_counter() - began


def _timed(plan: Plan, action: Callable[[], Result]) -> tuple[float, Result]:
    began = _now(plan)
    result = action()
    return _now(plan) - began, result


def _now(plan: Plan) -> float:
    """The clock, once the device has done what it was given."""
    if plan.numerics.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _forget_peak(plan: Plan) -> None:
    reset_peak_memory()
    if plan.numerics.device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _footprint_so_far(plan: Plan) -> Footprint:
    on_gpu = plan.numerics.device == "cuda"
    return Footprint(
        host_bytes=peak_memory_bytes(),
        gpu_bytes=torch.cuda.max_memory_allocated() if on_gpu else 0,
    )
