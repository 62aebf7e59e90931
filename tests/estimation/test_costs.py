"""Predictions against sums that can be done by hand."""

import dataclasses

import pytest

from idm_ray.algorithm.flops import ImageFlops
from idm_ray.algorithm.numerics import Numerics
from idm_ray.estimation.costs import Footprint, Rates, assume_gpu, predict
from idm_ray.layout import Crew, Share
from idm_ray.plan import Plan
from idm_ray.scaling import ACTOR_CALL_S, STORE_S_PER_BYTE
from idm_ray.work import Lessons, Work
from tests.making_runs import plan_of

WORK = Work(
    iterations=100,
    classes=10,
    matched=(30, 5),
    train_steps=500,
    batch_train=20,
    lessons={
        "condensed": Lessons(epochs=10, images=40, steps=2),
        "random": Lessons(epochs=10, images=10, steps=1),
    },
    subjects=("condensed", "condensed", "random"),
    test_images=1000,
    flops=ImageFlops(forward=1e9, match=2e9, train=3e9, second_order=8e9),
    image_bytes=100,
    class_bytes=1000,
    model_bytes=10_000,
    models=7,
    snapshot_bytes=5_000_000,
    cache_bytes=10**6,
)
RATES = Rates(
    class_s=0.5,
    serve_s=0.1,
    step_s=0.2,
    epoch_s={"condensed": 3.0, "random": 1.0},
    job_s=2.0,
    test_s=4.0,
    match_first_s=6.0,
    train_first_s=5.0,
    evaluate_first_s=7.0,
    process_s=8.0,
    idle=Footprint(host_bytes=100_000, gpu_bytes=0),
    matching=Footprint(host_bytes=300_000, gpu_bytes=50_000),
    training=Footprint(host_bytes=200_000, gpu_bytes=40_000),
    evaluating=Footprint(host_bytes=250_000, gpu_bytes=30_000),
)
ALONE = Crew(shares=(Share(classes=10, queue=True),), at_once=1, evaluations=1)
# Two class actors, the queue, and the driver.
TEAM = Crew(
    shares=(Share(classes=6), Share(classes=4), Share(queue=True)),
    at_once=3,
    evaluations=2,
    driver=1,
)
# The queue's part of an iteration: 5 training steps on average.
QUEUE_S = 0.1 + 5 * 0.2
# Each network of evaluation.
CONDENSED_S, RANDOM_S = 2 + 10 * 3 + 4, 2 + 10 * 1 + 4


def test_networks_are_pretrained_one_at_a_time_by_each_process_that_has_a_processor():
    work = dataclasses.replace(WORK, pretrained=4, pretrain_steps=50)
    assert predict(WORK, RATES, TEAM).pretrain_s == 0
    assert predict(work, RATES, ALONE).pretrain_s == pytest.approx(4 * 50 * 0.2)
    assert predict(work, RATES, TEAM).pretrain_s == pytest.approx(2 * 50 * 0.2)
    two = dataclasses.replace(TEAM, at_once=1.5)
    assert predict(work, RATES, two).pretrain_s == pytest.approx(4 * 50 * 0.2)


def test_where_classes_meet_matching_and_training_take_turns():
    work = dataclasses.replace(WORK, rounds=4)
    alone, team = predict(work, RATES, ALONE), predict(work, RATES, TEAM)
    assert alone.iteration_s == pytest.approx(10 * 0.5 + QUEUE_S)
    # In each round every process is told what to do, and gives its images.
    call_s, store_s = 2 * 4 * ACTOR_CALL_S, 5e6 * STORE_S_PER_BYTE
    assert team.matching_s == pytest.approx(6 * 0.5 + call_s)
    assert team.iteration_s == pytest.approx(6 * 0.5 + QUEUE_S + store_s + 2 * call_s)
    assert team.condense_s == pytest.approx(100 * team.iteration_s)


def test_who_chooses_looks_at_all_images_and_has_no_iterations():
    work = dataclasses.replace(WORK, iterations=0, train_steps=0, looked_at=2000)
    rates = dataclasses.replace(RATES, look_s=0.01)
    found = predict(work, rates, ALONE)
    assert (found.iteration_s, found.matching_s, found.training_s) == (0, 0, 0)
    assert found.condense_s == pytest.approx(2000 * 0.01)
    assert predict(work, rates, TEAM).condense_s == pytest.approx(2000 * 0.01 / 3)


def test_one_process_does_everything_in_turn():
    found = predict(WORK, RATES, ALONE)
    assert found.matching_s == pytest.approx(10 * 0.5)
    assert found.training_s == pytest.approx(QUEUE_S)
    assert found.iteration_s == pytest.approx(10 * 0.5 + QUEUE_S)
    assert found.condense_s == pytest.approx(100 * (10 * 0.5 + QUEUE_S))
    assert found.first_s == pytest.approx(6 + 5)
    assert found.evaluate_s == pytest.approx(2 * CONDENSED_S + RANDOM_S)
    assert found.evaluate_first_s == pytest.approx(7)


def test_processes_beside_each_other_take_as_long_as_the_busiest():
    found = predict(WORK, RATES, TEAM)
    assert found.iteration_s == pytest.approx(6 * 0.5 + ACTOR_CALL_S)
    assert found.bottleneck == "matching"
    assert found.first_s == pytest.approx(6)
    # Two at a time: both condensed sets, then the random one.
    assert found.evaluate_s == pytest.approx(CONDENSED_S + RANDOM_S)
    assert found.evaluate_first_s == pytest.approx(7 + 8)


def test_the_queue_can_be_the_busiest():
    found = predict(WORK, dataclasses.replace(RATES, step_s=2.0), TEAM)
    store_s = 5_000_000 * STORE_S_PER_BYTE
    assert found.iteration_s == pytest.approx(0.1 + 5 * 2.0 + store_s + ACTOR_CALL_S)
    assert found.bottleneck == "training"


def test_processes_on_too_few_processors_take_as_long_as_all_of_them_together():
    found = predict(WORK, RATES, dataclasses.replace(TEAM, at_once=1.5))
    ray_s = 5_000_000 * STORE_S_PER_BYTE + 3 * ACTOR_CALL_S
    assert found.iteration_s == pytest.approx((10 * 0.5 + QUEUE_S + ray_s) / 1.5)
    assert found.first_s == pytest.approx((6 + 6 + 5) / 1.5)


def test_without_networks_to_evaluate_there_is_no_evaluation():
    found = predict(dataclasses.replace(WORK, subjects=()), RATES, TEAM)
    assert (found.evaluate_s, found.evaluate_first_s) == (0, 0)
    assert "evaluation task" not in found.process_bytes


def test_the_memory_of_one_process_is_that_of_its_largest_part_and_of_all_it_keeps():
    found = predict(WORK, RATES, ALONE)
    whole = 300_000 + 10 * 1000 + 7 * 10_000
    assert found.process_bytes == {"process": whole, "evaluation task": 250_000}
    assert (found.condense_bytes, found.gpu_bytes) == (whole, 0)


def test_the_memory_of_processes_is_added_up():
    found = predict(WORK, RATES, TEAM)
    assert found.process_bytes == {
        "class actor": 300_000 + 6000,
        "model queue": 200_000 + 70_000,
        "driver": 100_000,
        "evaluation task": 250_000,
    }
    assert found.condense_bytes == (306_000 + 304_000) + 270_000 + 100_000


@pytest.mark.parametrize(
    ("gpus", "fullest"),
    [
        (1, (50_000 + 6000) + (50_000 + 4000) + (40_000 + 70_000)),
        (2, (40_000 + 70_000) + (50_000 + 6000)),
        (3, 40_000 + 70_000),
        (8, 40_000 + 70_000),
    ],
)
def test_the_fullest_gpu_holds_the_largest_processes_that_share_one(gpus, fullest):
    assert predict(WORK, RATES, dataclasses.replace(TEAM, gpus=gpus)).gpu_bytes == fullest


# 128 channels of 8x8 and of 4x4 maps: outputs of the convolutions for a digit.
OUTPUTS = 128 * (64 + 16)


@pytest.fixture(scope="module")
def plan():
    """Groups of two classes with 4 tiles each, 20 images in a training step, 15 in a pass."""
    options = {"classes_per_group": 2, "batch_train": 20, "partition": 2, "images_per_pass": 15}
    return plan_of(network="convnet-2", **options)[0]


def on_gpu(plan: Plan, **changed: object) -> Plan:
    numerics = {"device": "cuda", "precision": "bfloat16", "images_per_pass": 15} | changed
    return dataclasses.replace(plan, numerics=Numerics(**numerics))


def passed_s(images, passes, element_bytes=2):
    """Forward passes: each output moved 3.25 times at 3.35 TB/s, 0.25 ms a pass."""
    return images * OUTPUTS * 3.25 * element_bytes / 3.35e12 + passes * 0.25e-3


def test_a_gpu_that_is_not_here_is_assumed_from_arithmetic(plan):
    found = assume_gpu(on_gpu(plan), WORK, RATES)
    # 30 real images in two passes; 4 tiles with gradients, half of a pass.
    tiles_s = 3 * passed_s(4, 0.5)
    assert found.class_s == pytest.approx(passed_s(30, 2) + tiles_s)
    assert found.step_s == pytest.approx(3 * passed_s(20, 2))
    assert found.epoch_s["condensed"] == pytest.approx(3 * passed_s(40, 2))
    assert found.epoch_s["random"] == pytest.approx(3 * passed_s(10, 1))
    assert found.test_s == pytest.approx(passed_s(1000, 67))
    assert found.process_s == RATES.process_s


def test_the_bytes_that_a_gpu_moves_and_holds_follow_the_precision(plan):
    half, full = (
        assume_gpu(on_gpu(plan, precision=precision), WORK, RATES)
        for precision in ("bfloat16", "float32")
    )
    assert full.step_s == pytest.approx(3 * passed_s(20, 2, element_bytes=4))
    # The largest passes: of 15 real images, of 15 images to train on.
    assert half.matching.gpu_bytes == half.training.gpu_bytes == 15 * OUTPUTS * 3.25 * 2
    assert full.matching.gpu_bytes == 2 * half.matching.gpu_bytes


def test_compiling_for_a_gpu_takes_an_assumed_time_and_not_the_cpus(plan):
    plain, compiled = (
        assume_gpu(on_gpu(plan, compile=compile), WORK, RATES) for compile in (False, True)
    )
    for rates, seconds in ((plain, 0), (compiled, 30)):
        firsts = (rates.match_first_s, rates.train_first_s, rates.evaluate_first_s)
        assert firsts == (seconds,) * 3


def test_the_memory_of_a_cpu_process_is_not_told_of_a_gpu_process(plan):
    found = predict(WORK, assume_gpu(on_gpu(plan), WORK, RATES), dataclasses.replace(TEAM, gpus=3))
    assert (found.process_bytes, found.condense_bytes) == ({}, None)
    assert found.gpu_bytes == 15 * OUTPUTS * 3.25 * 2 + 70_000


def test_gradients_of_gradients_are_assumed_to_move_more():
    options = {"method": "dsa", "partition": 1, "ipc": 3, "outer_rounds": 2, "classes_per_group": 2}
    plan = plan_of(network="convnet-2", images_per_pass=15, **options)[0]
    # Two rounds of 30 real images in two passes, with their gradients, and of 3 synthetic ones.
    work = dataclasses.replace(WORK, matched=(60, 6), rounds=2, second_order=True, batch_train=10)
    found = assume_gpu(on_gpu(plan), work, RATES)
    assert found.class_s == pytest.approx(2 * (3 * passed_s(30, 2) + 8 * passed_s(3, 1)))
    assert found.step_s == pytest.approx(3 * passed_s(10, 1))
