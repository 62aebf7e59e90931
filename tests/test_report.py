import numpy as np
import pytest

from idm_ray.plan import EvaluationJob
from idm_ray.progress import Busy, Evaluated, Progress
from idm_ray.report import RateMeter, make_card, metrics_line, statistics, summarise
from tests.making_runs import plan_of


def progress(iteration, **queue):
    return Progress(iteration=iteration, losses={"matching_loss": 2.0}, queue=queue, waiting=0.25)


JOB = EvaluationJob(subject="start", repeat=1, iteration=7)


def test_the_deviation_is_that_of_the_population():
    found = statistics([0.5, 0.7])
    assert found == {
        "repeats": 2,
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.1),
        "accuracies": [0.5, 0.7],
    }
    assert all(type(found[name]) is float for name in ("mean", "std"))


def test_a_line_of_progress_is_flat():
    assert metrics_line(progress(5, queue_size=3), 1.23456) == {
        "iteration": 5,
        "seconds": 1.235,
        "matching_loss": 2.0,
        "queue_size": 3,
        "waiting": 0.25,
    }


def test_a_line_of_an_evaluation_names_its_job():
    assert metrics_line(Evaluated(job=JOB, accuracy=0.5), 2.0) == {
        "seconds": 2.0,
        "subject": "start",
        "repeat": 1,
        "iteration": 7,
        "accuracy": 0.5,
    }


def test_the_rate_counts_real_images_tiles_and_trained_images_since_the_last_report():
    plan, _ = plan_of(ipc=2, partition=2, batch_real=16, num_matched_models=3)
    meter = RateMeter(plan)
    per_iteration = 3 * (10 * 16 + 10 * 2 * 4)
    rate = meter.measure(progress(4, trained_images=100), 2.0)["images_per_s"]
    assert rate == pytest.approx((4 * per_iteration + 100) / 2)
    assert meter.measure(Evaluated(job=JOB, accuracy=0.5), 3.0) == {}
    rate = meter.measure(progress(5), 7.0)["images_per_s"]
    assert rate == pytest.approx(per_iteration / 5)


def test_subjects_that_were_not_evaluated_are_none():
    plan, _ = plan_of(iterations=4, ipc=5)
    summary = summarise(plan, 6.0, Busy(), 123, {"start": [0.25, 0.75]})
    assert (summary["seconds_per_iteration"], summary["peak_rss_bytes"]) == (1.5, 123)
    assert summary["ratio"] == 5 * 10 / 200
    assert [summary[name] for name in ("evaluation", "random", "whole")] == [None] * 3
    assert summary["start"]["mean"] == 0.5
    assert "selected_on" not in summary["start"]


def test_the_share_of_ray_is_what_the_longest_path_of_computing_leaves():
    on_ray, alone = (plan_of(local=local)[0] for local in (False, True))
    summary = summarise(on_ray, 8.0, Busy(matching_s=5.0, training_s=4.0, path_s=6.0), 123, {})
    assert summary["ray_share"] == 0.25
    assert summary["busy_seconds"] == {"matching": 5.0, "training": 4.0, "longest_path": 6.0}
    assert summarise(alone, 8.0, Busy(), 123, {})["ray_share"] is None


def test_the_card_describes_the_plan():
    plan, dataset = plan_of(ipc=3, partition=2, seed=8, lr_net=0.02, network="convnet-1")
    card = make_card(plan, evaluation={"mean": 0.5})
    assert (card.image_shape, card.num_images) == ((1, 8, 8), 30)
    assert (card.mean, card.std) == (dataset.info.mean, dataset.info.std)
    assert (card.network, card.partition, card.seed) == ("convnet-1", 2, 8)
    assert card.protocol["lr_net"] == 0.02
    assert card.evaluation == {"mean": 0.5}
    assert card.versions["numpy"] == np.__version__
