"""Predictions against sums that can be done by hand."""

import dataclasses

import pytest

from idm_ray.algorithm.flops import ImageFlops
from idm_ray.estimation.costs import Footprint, Rates, assume_gpu, predict
from idm_ray.layout import Crew, Share
from idm_ray.work import Lessons, Work

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
    flops=ImageFlops(forward=1e9, match=2e9, train=3e9),
    image_bytes=100,
    class_bytes=1000,
    model_bytes=10_000,
    models=7,
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
    assert found.iteration_s == pytest.approx(6 * 0.5)
    assert found.first_s == pytest.approx(6)
    # Two at a time: both condensed sets, then the random one.
    assert found.evaluate_s == pytest.approx(CONDENSED_S + RANDOM_S)
    assert found.evaluate_first_s == pytest.approx(7 + 8)


def test_the_queue_can_be_the_busiest():
    found = predict(WORK, dataclasses.replace(RATES, step_s=2.0), TEAM)
    assert found.iteration_s == pytest.approx(0.1 + 5 * 2.0)


def test_processes_on_too_few_processors_take_as_long_as_all_of_them_together():
    found = predict(WORK, RATES, dataclasses.replace(TEAM, at_once=1.5))
    assert found.iteration_s == pytest.approx((10 * 0.5 + QUEUE_S) / 1.5)
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


def test_a_gpu_that_is_not_here_is_assumed_from_arithmetic():
    found = assume_gpu(WORK, RATES)
    # A class: 30 forward and 5 match images, 40 GFLOP at 300 TFLOP/s, and two passes of 1 ms.
    assert found.class_s == pytest.approx(40e9 / 3e14 + 2e-3)
    assert found.step_s == pytest.approx(60e9 / 3e14 + 1e-3)
    assert found.epoch_s["condensed"] == pytest.approx(120e9 / 3e14 + 2e-3)
    assert found.epoch_s["random"] == pytest.approx(30e9 / 3e14 + 1e-3)
    assert found.test_s == pytest.approx(1e12 / 3e14 + 1e-3)
    assert found.matching == Footprint(host_bytes=100_000, gpu_bytes=200_000)
    assert found.training == Footprint(host_bytes=100_000, gpu_bytes=100_000)
    assert found.process_s == RATES.process_s
