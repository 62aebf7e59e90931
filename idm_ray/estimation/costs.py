"""Time and memory of a run, from its work, measured rates and a crew. Pure arithmetic.

Rates are measured by `idm_ray.estimation.probe`, or assumed for hardware that is not here.
"""

import dataclasses
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from idm_ray.layout import Crew, Share
from idm_ray.plan import Subject
from idm_ray.work import Work

# What a GPU is assumed to do where none can be measured: an H100 in bfloat16 that waits for memory,
# with norm, ReLU and pooling in one pass each (a CIFAR-10 iteration of 1.9 TFLOP in 6 ms), and the
# time to launch the operations of one pass. Others come close at best.
ASSUMED_GPU_FLOPS_PER_S = 3e14
ASSUMED_GPU_LAUNCH_S = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Memory of a process, in bytes: its own at its largest, and what it allocates on a GPU."""

    host_bytes: int
    gpu_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How fast a process is, in seconds, and what it holds meanwhile.

    Attributes:
        class_s: matching one class in one iteration.
        serve_s: the queue's part of an iteration without training.
        step_s: one training step of a network of the queue.
        epoch_s: one epoch of a network of evaluation, by its subject.
        job_s: what a network of evaluation takes besides its epochs and its test.
        test_s: testing one network.
        match_first_s: what the first iteration takes longer; compilation, mostly.
        train_first_s: what the first training step takes longer.
        evaluate_first_s: what the first network of evaluation takes longer.
        process_s: starting a process.
        idle: a process that has loaded everything and computes nothing.
        matching: a process that matches.
        training: a process that trains networks of the queue.
        evaluating: a process that evaluates.
    """

    class_s: float
    serve_s: float
    step_s: float
    epoch_s: Mapping[Subject, float]
    job_s: float
    test_s: float
    match_first_s: float
    train_first_s: float
    evaluate_first_s: float
    process_s: float
    idle: Footprint
    matching: Footprint
    training: Footprint
    evaluating: Footprint


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a run takes a crew.

    Attributes:
        iteration_s: an iteration once everything runs.
        matching_s: the part of an iteration that the busiest process spends on matching.
        training_s: the same for the queue, averaged over the iterations that train and do not.
        first_s: what the first iterations take longer; compilation, mostly.
        condense_s: all iterations, without `first_s`.
        evaluate_first_s: what the first evaluation takes longer.
        evaluate_s: evaluation of all networks, without `evaluate_first_s`.
        process_bytes: own memory of the largest process of each kind.
        condense_bytes: own memory of all processes together while condensing.
        gpu_bytes: allocated on the fullest GPU; 0 without one.
    """

    iteration_s: float
    matching_s: float
    training_s: float
    first_s: float
    condense_s: float
    evaluate_first_s: float
    evaluate_s: float
    process_bytes: Mapping[str, int]
    condense_bytes: int
    gpu_bytes: int


def predict(work: Work, rates: Rates, crew: Crew) -> Prediction:
    """Time and memory of some work, from rates.

    Processes compute at the same time as far as there are processors for them: a part lasts as long
    as its busiest process, or as all of them together take the processors, whichever is longer.
    """
    training_s = rates.serve_s + work.train_steps / work.iterations * rates.step_s
    loads = [s.classes * rates.class_s + s.queue * training_s for s in crew.shares]
    firsts = [
        (s.classes > 0) * rates.match_first_s + s.queue * rates.train_first_s for s in crew.shares
    ]
    iteration_s = _lasting(loads, crew.at_once)
    evaluates = bool(work.subjects)
    return Prediction(
        iteration_s=iteration_s,
        matching_s=max(s.classes for s in crew.shares) * rates.class_s,
        training_s=training_s,
        first_s=_lasting(firsts, crew.at_once),
        condense_s=work.iterations * iteration_s,
        evaluate_first_s=evaluates * (rates.evaluate_first_s + crew.driver * rates.process_s),
        evaluate_s=_in_turn([_job_s(work, rates, s) for s in work.subjects], crew.evaluations),
        process_bytes=_process_bytes(work, rates, crew),
        condense_bytes=_condense_bytes(work, rates, crew),
        gpu_bytes=_gpu_bytes(work, rates, crew),
    )


def assume_gpu(work: Work, measured: Rates) -> Rates:
    """Rates of a GPU from arithmetic alone.

    Args:
        work: whose parts the rates are of.
        measured: on a CPU; what a process allocates there beyond an idle one is taken for what it
            allocates on the GPU, and starting takes as long.
    """

    def seconds(flops: float, passes: float) -> float:
        return flops / ASSUMED_GPU_FLOPS_PER_S + passes * ASSUMED_GPU_LAUNCH_S

    def footprint(of: Footprint) -> Footprint:
        idle = measured.idle.host_bytes
        return Footprint(host_bytes=idle, gpu_bytes=max(0, of.host_bytes - idle))

    epochs = {s: work.lessons[s] for s in measured.epoch_s}
    return dataclasses.replace(
        measured,
        class_s=seconds(work.match_flops, passes=2),
        step_s=seconds(work.step_flops, passes=1),
        epoch_s={s: seconds(e.images * work.flops.train, e.steps) for s, e in epochs.items()},
        test_s=seconds(work.test_images * work.flops.forward, passes=1),
        matching=footprint(measured.matching),
        training=footprint(measured.training),
        evaluating=footprint(measured.evaluating),
    )


def _job_s(work: Work, rates: Rates, subject: Subject) -> float:
    return rates.job_s + work.lessons[subject].epochs * rates.epoch_s[subject] + rates.test_s


def _lasting(loads: Iterable[float], at_once: float) -> float:
    """Seconds until processes that start together have all finished."""
    loads = list(loads)
    return max(*loads, sum(loads) / at_once)


def _in_turn(jobs: Iterable[float], at_a_time: int) -> float:
    """Seconds until jobs are done that are started in their order, as places become free."""
    places = [0.0] * at_a_time
    for seconds in jobs:
        heapq.heappush(places, heapq.heappop(places) + seconds)
    return max(places)


def _host_bytes(work: Work, rates: Rates, share: Share) -> int:
    """Own memory of a process that condenses, at its largest."""
    peaks = [rates.idle.host_bytes]
    peaks += [rates.matching.host_bytes] * (share.classes > 0)
    peaks += [rates.training.host_bytes] * share.queue
    return max(peaks) + _state_bytes(work, share)


def _state_bytes(work: Work, share: Share) -> int:
    return share.classes * work.class_bytes + share.queue * work.models * work.model_bytes


def _process_bytes(work: Work, rates: Rates, crew: Crew) -> dict[str, int]:
    found = Counter[str]()
    for share in crew.shares:
        kind = _kind(share)
        found[kind] = max(found[kind], _host_bytes(work, rates, share))
    if crew.driver:
        found["driver"] = rates.idle.host_bytes
    if work.subjects:
        found["evaluation task"] = rates.evaluating.host_bytes
    return dict(found)


def _kind(share: Share) -> str:
    if share.classes and share.queue:
        return "process"
    return "model queue" if share.queue else "class actor"


def _condense_bytes(work: Work, rates: Rates, crew: Crew) -> int:
    processes = sum(_host_bytes(work, rates, share) for share in crew.shares)
    return processes + crew.driver * rates.idle.host_bytes


def _gpu_bytes(work: Work, rates: Rates, crew: Crew) -> int:
    """The largest processes, as many as share one GPU."""
    if not crew.gpus:
        return 0
    each = sorted(
        max((s.classes > 0) * rates.matching.gpu_bytes, s.queue * rates.training.gpu_bytes)
        + _state_bytes(work, s)
        for s in crew.shares
    )
    return sum(each[-math.ceil(len(each) / crew.gpus) :])
