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
from idm_ray.plan import Plan, Subject
from idm_ray.scaling import (
    BACKWARD_TOO,
    H100,
    SECOND_ORDER_TOO,
    Gpu,
    IterationTime,
    Parts,
    class_seconds,
    conv_outputs,
    iteration_time,
    step_seconds,
)
from idm_ray.work import Work

# What a number of a network takes.
PRECISION_BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """Memory of a process, in bytes: its own at its largest, and what it allocates on a GPU.

    Its own is 0 where it is unknown.
    """

    host_bytes: int
    gpu_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How fast a process is, in seconds, and what it holds meanwhile.

    Attributes:
        class_s: matching one class in one iteration.
        look_s: embedding one real image, to choose among them.
        serve_s: the queue's part of an iteration without training.
        step_s: one training step of a network that is matched, or before that.
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
    look_s: float = 0.0
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
        bottleneck: what sets the time of an iteration: matching, training, driver, or "devices"
            where processes have to take turns. Without iterations, it and those of an iteration
            mean nothing and are 0.
        pretrain_s: training networks before condensing, if none is kept from an earlier run.
        first_s: what the first iterations take longer; compilation, mostly.
        condense_s: all iterations, or embedding the real images to choose among, without
            `first_s`.
        evaluate_first_s: what the first evaluation takes longer.
        evaluate_s: evaluation of all networks, without `evaluate_first_s`.
        process_bytes: own memory of the largest process of each kind; none where it is unknown.
        condense_bytes: own memory of all processes together while condensing; likewise None.
        gpu_bytes: allocated on the fullest GPU; 0 without one.
    """

    iteration_s: float
    matching_s: float
    training_s: float
    bottleneck: str
    pretrain_s: float
    first_s: float
    condense_s: float
    evaluate_first_s: float
    evaluate_s: float
    process_bytes: Mapping[str, int]
    condense_bytes: int | None
    gpu_bytes: int


def predict(work: Work, rates: Rates, crew: Crew) -> Prediction:
    """Time and memory of some work, from rates.

    Processes compute at the same time as far as there are processors for them: a part lasts as long
    as its busiest process, or as all of them together take the processors, whichever is longer.
    """
    time = _iteration_time(work, rates, crew)
    firsts = [
        (s.classes > 0) * rates.match_first_s + s.queue * rates.train_first_s for s in crew.shares
    ]
    evaluates = bool(work.subjects)
    at_a_time = max(1, min(len(crew.shares), int(crew.at_once)))
    return Prediction(
        iteration_s=time.seconds,
        matching_s=time.match_s,
        training_s=time.train_s,
        bottleneck=time.bottleneck,
        pretrain_s=_in_turn(
            [work.pretrain_steps * rates.step_s] * work.pretrained,
            at_a_time,
        ),
        first_s=_lasting(firsts, crew.at_once),
        condense_s=work.iterations * time.seconds + work.looked_at * rates.look_s / at_a_time,
        evaluate_first_s=evaluates * (rates.evaluate_first_s + crew.driver * rates.process_s),
        evaluate_s=_in_turn([_job_s(work, rates, s) for s in work.subjects], crew.evaluations),
        process_bytes=_process_bytes(work, rates, crew) if rates.idle.host_bytes else {},
        condense_bytes=_condense_bytes(work, rates, crew) if rates.idle.host_bytes else None,
        gpu_bytes=_gpu_bytes(work, rates, crew),
    )


def _iteration_time(work: Work, rates: Rates, crew: Crew) -> IterationTime:
    if not work.iterations:
        return IterationTime(match_s=0.0, train_s=0.0, driver_s=0.0, together_s=0.0)
    return iteration_time(parts_of(work, rates), crew)


def parts_of(work: Work, rates: Rates) -> Parts:
    """The parts of an iteration, at the rates of one device."""
    return Parts(
        class_s=rates.class_s,
        train_s=rates.serve_s + work.train_steps / work.iterations * rates.step_s,
        num_models=work.models,
        snapshot_bytes=work.snapshot_bytes,
        rounds=work.rounds,
    )


def gpu_of(plan: Plan) -> Gpu:
    """The GPU that is assumed, computing in a plan's precision."""
    return dataclasses.replace(H100, element_bytes=PRECISION_BYTES[plan.numerics.precision])


def assume_gpu(plan: Plan, work: Work, measured: Rates) -> Rates:
    """Rates of a GPU that is not here, from arithmetic alone.

    Its memory holds, besides what a process owns, what the outputs of its largest pass need.

    Args:
        plan: with the numerics of the GPU.
        work: that the run has to do.
        measured: on a CPU. What the host does stays: starting a process, serving the queue's
            networks, building those of evaluation.
    """
    gpu, config = gpu_of(plan), plan.config
    condense = config.condense
    outputs = conv_outputs(plan.build_network(), plan.info.image_shape)
    at_once = plan.numerics.images_per_pass
    embedded = condense.num_matched_models * work.rounds
    real_images, tiles = (images // embedded for images in work.matched)

    def holding(images: int) -> Footprint:
        return Footprint(host_bytes=0, gpu_bytes=int(gpu.moved_bytes(images * outputs)))

    first_s = plan.numerics.compile * gpu.compile_s
    epochs = {s: work.lessons[s] for s in measured.epoch_s}
    # The tiles of a group go through in one pass, whatever their number; where the gradients of
    # weights are differentiated, those of a class, and what came of them is held as well.
    tiles *= SECOND_ORDER_TOO // BACKWARD_TOO if work.second_order else len(plan.groups[0])
    largest = max(min(real_images, at_once), tiles)
    training = holding(min(work.batch_train, at_once))
    return dataclasses.replace(
        measured,
        class_s=class_seconds(gpu, config, outputs=outputs, real_images=real_images),
        look_s=gpu.seconds(outputs, passes=1 / at_once),
        step_s=step_seconds(gpu, config, outputs=outputs, batch=work.batch_train),
        epoch_s={s: gpu.training_s(e.images * outputs, passes=e.steps) for s, e in epochs.items()},
        test_s=gpu.seconds(
            work.test_images * outputs, passes=math.ceil(work.test_images / at_once)
        ),
        match_first_s=first_s,
        train_first_s=first_s if work.train_steps else 0.0,
        evaluate_first_s=first_s,
        idle=holding(0),
        matching=holding(largest),
        training=training if work.train_steps else holding(0),
        evaluating=training,
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
