"""Fig. 3: what is DM stays DM, but for the networks that it is matched on."""

import numpy as np
import pytest

from idm_ray.algorithm.model_start import draw_start
from idm_ray.config import QueueConfig
from idm_ray.resolving import settled
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.same_runs import select
from idm_ray.tuning.grid import grid_trials
from tests.making_runs import TINY, metrics, pixels, pixels_of, plan_of, run
from tests.searches.making import CIFAR100, config_of

EPOCHS = ["10 epochs", "20 epochs", "30 epochs", "40 epochs", "50 epochs", "60 epochs"]


def configs_of(config):
    points = SEARCHES["pretrain_epochs"].points(config)
    return {point.label: config.replace(**point.options) for point in points}


def differing(one, other):
    one, other = one.flat(), other.flat()
    return {name for name in one if one[name] != other[name]}


def test_dm_is_matched_on_networks_of_10_to_60_epochs_and_nothing_else_is_changed():
    config = config_of(CIFAR100, ipc=10)
    found = configs_of(config)
    assert list(found) == ["random networks", *EPOCHS, "model queue"]
    dm = found["random networks"]
    assert dm.condense == config_of(CIFAR100, ipc=10, method="dm").condense
    for label in EPOCHS:
        assert differing(dm, found[label]) <= {
            *("method", "pretrained", "pretrain_steps", "pretrained_classes")
        }
        queue = found[label].queue
        assert (queue.queue_size, queue.pretrained, queue.pretrain_steps) == (0, 5, label)
        assert queue.pretrained_classes == "all"
    assert differing(config, found["model queue"]) == {"lambda_reg", "partition"}


def test_the_run_says_how_many_networks_are_pretrained_and_the_others_have_none():
    found = configs_of(config_of(CIFAR100, ipc=10, pretrained=600))
    members = {label: config.queue.pretrained for label, config in found.items()}
    assert members == {"random networks": 0, **dict.fromkeys(EPOCHS, 600), "model queue": 0}


def test_every_point_is_a_run_of_its_own():
    assert select(SEARCHES["pretrain_epochs"], config_of(iterations=1), (0,)).same_as == {}


def test_what_table_2_runs_as_well_is_run_once():
    options = {**TINY, "local": False, "partition": 2}
    info = plan_of()[0].info
    config = settled(options, info)
    selections = [
        select(SEARCHES[name], config, (0,)) for name in ("components", "pretrain_epochs")
    ]
    jobs = {
        (trial.search, trial.point.label): trial.job
        for trial in grid_trials(selections, options, info, (0,))
    }
    assert jobs["components", "DM"].name == jobs["pretrain_epochs", "random networks"].name
    assert jobs["components", "+ model queue"].name == jobs["pretrain_epochs", "model queue"].name
    assert len({job.name for job in jobs.values()}) == 4 + 6


@pytest.fixture(scope="module")
def on_pretrained():
    """Options of the point with 10 epochs, but for the networks."""
    (point,) = [
        point
        for point in SEARCHES["pretrain_epochs"].points(config_of(batch_real=16))
        if point.label == "10 epochs"
    ]
    return {name: value for name, value in point.options.items() if not name.startswith("pretr")}


def test_without_pretrained_networks_its_images_are_those_of_dm(tmp_path, on_pretrained):
    dm = pixels_of(tmp_path / "dm", method="dm")
    assert np.array_equal(dm, pixels_of(tmp_path / "idm", **on_pretrained))


def test_every_iteration_is_matched_on_a_copy_of_one_of_them_drawn_anew(tmp_path, on_pretrained):
    of = {"pretrained": 2, "pretrained_classes": "all", "iterations": 8}
    images = []
    for label in ("2 epochs", "3 epochs"):
        folder = run(tmp_path / label, **on_pretrained, **of, pretrain_steps=label).folder
        lines = metrics(folder)
        networks = [line for line in lines if "cached" in line]
        # 200 images in batches of 32.
        assert [network["steps"] for network in networks] == [7 * int(label.split()[0])] * 2
        # A network is known by its accuracy.
        accuracies = [network["train_accuracy"] for network in networks]
        queue = QueueConfig(pretrained=2)
        members = [draw_start(queue, i, num_classes=10, seed=0).member for i in range(8)]
        progress = [line for line in lines if "matching_loss" in line]
        assert [line["matched_accuracy"] for line in progress] == [accuracies[m] for m in members]
        assert {line["matched_age"] for line in progress} == {0}
        assert set(members) == {0, 1}
        images.append(pixels(folder))
    assert not np.array_equal(*images)
