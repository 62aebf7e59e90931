import time

import pytest

from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.finding import from_file, with_values
from idm_ray.searches.same_runs import select
from tests.making_runs import pixels_of, plan_of
from tests.searches.making import CIFAR100, config_of, labels


def chosen(option, values, *, seeds=(0, 1), **given):
    return select(with_values(option, values), config_of(**given), seeds)


def test_queues_that_are_never_full_are_one():
    found = chosen("queue_size", "4,8,11,60,140", iterations=40)
    assert found.same_as == {"60": "11", "140": "11"}
    assert labels(found.to_run) == ["4", "8", "11"]
    assert labels(found.points) == ["4", "8", "11", "60", "140"]
    assert found.own == "11"  # does what the run's 100 would
    assert found.note == ("queue_size: 11 = 60 = 140: cannot differ within 40 iterations, run once")


def test_a_value_of_the_run_s_own_is_preferred_to_one_that_does_the_same():
    assert chosen("queue_size", "60,100", iterations=40).own == "100"
    assert chosen("lr_img", "1,2", iterations=40).own is None


def test_the_named_grid_of_queue_sizes_has_nothing_to_merge():
    found = select(SEARCHES["queue_size"], config_of(iterations=40), (0, 1))
    assert (found.same_as, found.note, found.own) == ({}, None, "11")


@pytest.mark.parametrize(
    ("option", "values", "same_as"),
    [
        ("train_interval", "1,10,20,30", {"20": "10", "30": "10"}),
        ("push_interval", "5,10,11,50", {"11": "10", "50": "10"}),
        ("num_trained_models", "1,2,50,60", {"60": "50"}),
        ("queue_init", "3,4", {}),
        # Without pretrained networks.
        ("pretrain_steps", "1,2,epoch", {"2": "1", "epoch": "1"}),
        ("pretrained_classes", "half,all", {"all": "half"}),
        # Resets when there is nothing to forget yet, and after the end.
        ("accuracy_window", "10,100,lifetime", {"100": "10", "lifetime": "10"}),
        ("lambda_reg", "0,0.1", {}),
        ("lr_net", "0.01,0.02", {}),
    ],
)
def test_what_cannot_differ_within_10_iterations_is_one(option, values, same_as):
    assert chosen(option, values, iterations=10).same_as == same_as


def test_the_last_training_is_for_nobody():
    # In iteration 9, as the last of 10.
    assert chosen("train_interval", "9,10", iterations=10).same_as == {"10": "9"}
    assert chosen("train_interval", "9,10", iterations=11).same_as == {}


def test_accuracy_windows_are_one_where_meters_cannot_differ():
    # All trainings are in iteration 0: the last one is the whole life.
    once = {"iterations": 10, "train_interval": 10}
    assert chosen("accuracy_window", "last,lifetime", **once).same_as == {"lifetime": "last"}
    assert chosen("accuracy_window", "last,lifetime", iterations=40).same_as == {}
    # Copies of pretrained networks bring an accuracy, which the first reset takes from some.
    copies = {"pretrained": 2, "iterations": 10}
    assert chosen("accuracy_window", "10,lifetime", **copies).same_as == {}


def test_nobody_asks_for_an_accuracy_without_the_regularization():
    options = {"iterations": 40, "lambda_reg": 0.0}
    assert chosen("accuracy_window", "last,3,lifetime", **options).same_as == {
        "3": "last",
        "lifetime": "last",
    }


def test_points_are_one_only_if_they_are_for_all_seeds():
    # Of four networks, one is matched in each of two iterations; was one of the two trained?
    found = {
        seeds: chosen("train_steps", "1,2", iterations=2, seeds=seeds).same_as
        for seeds in [(seed,) for seed in range(8)]
    }
    assert {} in found.values()
    assert {"2": "1"} in found.values()
    assert chosen("train_steps", "1,2", iterations=2, seeds=range(8)).same_as == {}


def test_of_a_grid_only_points_that_share_the_rest_are_one(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("lambda_reg: [0.1, 1]\nqueue_size: [60, 140]\n")
    found = select(from_file(path), config_of(iterations=40), (0,))
    assert found.same_as == {
        f"lambda_reg {weight}, queue_size 140": f"lambda_reg {weight}, queue_size 60"
        for weight in ("0.1", "1")
    }
    assert found.note == (
        "grid: 2 of 4 points are as others of them: cannot differ within 40 iterations, run once"
    )


def test_a_search_of_the_paper_s_size_is_looked_through_in_seconds():
    began = time.perf_counter()
    found = select(SEARCHES["queue_size"], config_of(CIFAR100, ipc=10), (0, 1))
    assert found.same_as == {}
    assert found.own == "100"
    assert time.perf_counter() - began < 20


@pytest.mark.parametrize(
    ("option", "values", "are_same"),
    [
        ("queue_size", "4,9", False),
        ("queue_size", "10,11", True),
        ("train_interval", "1,2", False),
        ("train_interval", "7,8", True),
        ("accuracy_window", "8,lifetime", True),
        ("accuracy_window", "1,lifetime", False),
    ],
)
def test_points_are_said_to_be_one_where_they_give_the_same_pixels(
    tmp_path, option, values, are_same
):
    given = {"network": "convnet-1", "queue_init": 2, "push_interval": 1, "iterations": 8}
    found = select(with_values(option, values), plan_of(**given)[0].config, (0,))
    assert bool(found.same_as) == are_same
    one, other = (
        pixels_of(tmp_path / point.label, **{**given, **point.options}) for point in found.points
    )
    assert (one == other).all() == are_same
