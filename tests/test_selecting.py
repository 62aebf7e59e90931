"""Methods that choose real images, as whole runs."""

import json

import numpy as np
import pytest
import torch

from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.config import METHODS
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method
from idm_ray.methods.method import Selecting
from idm_ray.pretrained import pretrained_networks
from idm_ray.real_images import RealImages
from idm_ray.results.condensed import read_card
from tests.making_runs import TINY, pixels, plan_of, run

SELECTING = [name for name in METHODS if isinstance(find_method(name).how, Selecting)]
OF_IDM = {
    *("iterations", "batch_real", "queue_size", "push_interval"),
    *("train_interval", "train_steps"),
}
SHORT = {name: value for name, value in TINY.items() if name not in OF_IDM} | {
    "precision": "float32",
    "pretrain_steps": 12,
    "batch_train": 64,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "selecting"))


def options(method, **more):
    unused = find_method(method).unused
    return {n: v for n, v in SHORT.items() if n not in unused} | {"method": method} | more


def choose(folder, method, **more):
    from idm_ray.run import condense  # noqa: PLC0415 -- after the cache's folder is set

    return condense(out=folder, **options(method, **more))


def plan(method, **more):
    given = options(method, **more)
    dropped = dict.fromkeys(OF_IDM & set(TINY))
    base = {k: v for k, v in given.items() if k not in dropped}
    return plan_of(**base)[0]


def real(the_plan):
    """All training images, class by class, normalised."""
    with RealImages(the_plan) as images:
        return [
            images.of_class(label, np.arange(count)).numpy()
            for label, count in enumerate(the_plan.info.train_counts)
        ]


def rows_in(chosen, images):
    """Which of the real images were chosen; each must be one of them, exactly."""
    found = []
    for image in chosen:
        (row,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))[:1]
        found.append(int(row))
    return found


@pytest.mark.parametrize("method", SELECTING)
def test_the_set_is_of_different_real_images_of_each_class_as_they_are(method, tmp_path):
    finished = choose(tmp_path / "run", method, ipc=3)
    chosen = pixels(finished.folder).reshape(10, 3, 1, 8, 8)
    for label, images in enumerate(real(plan(method, ipc=3))):
        assert len(set(rows_in(chosen[label], images))) == 3
    card = read_card(finished.folder / "condensed.parquet")
    assert (card.method, card.iterations, card.partition, card.ipc) == (method, 0, 1, 3)
    summary = finished.summary
    assert (summary["iterations"], summary["seconds_per_iteration"]) == (0, None)
    assert summary["seconds"] > 0
    assert (finished.folder / "gallery.png").is_file()


def networks_of(the_plan):
    (lesson,) = the_plan.pretraining
    return [network for network, _ in pretrained_networks(the_plan, lesson)]


def embedded(the_plan, network, images):
    flat = FlatNetwork(the_plan.build_network(), the_plan.numerics)
    flat.load(torch.from_numpy(network.weights.copy()))
    with torch.no_grad():
        features = torch.stack([flat.features(torch.from_numpy(x[None]))[0] for x in images])
        return features.double().numpy(), flat.head(features).argmax(1).numpy()


def test_herding_looks_at_the_trained_network_alone(tmp_path):
    chosen = pixels(choose(tmp_path / "run", "herding", ipc=2).folder).reshape(10, 2, 1, 8, 8)
    the_plan = plan("herding", ipc=2)
    (network,) = networks_of(the_plan)
    for label, images in enumerate(real(the_plan)):
        features, _ = embedded(the_plan, network, images)
        distances = np.square(features - features.mean(0)).sum(1)
        assert rows_in(chosen[label], images) == np.argsort(distances)[:2].tolist()


def test_forgetting_counts_the_wrong_predictions_after_each_epoch(tmp_path):
    # 200 images in batches of 64: 4 steps an epoch, so 12 steps are 3 epochs.
    chosen = pixels(choose(tmp_path / "run", "forgetting", ipc=2).folder).reshape(10, 2, 1, 8, 8)
    the_plan = plan("forgetting", ipc=2)
    assert [lesson.steps for lesson in the_plan.pretraining] == [(4, 8, 12)]
    networks = networks_of(the_plan)
    for label, images in enumerate(real(the_plan)):
        counts = sum(
            (embedded(the_plan, network, images)[1] != label).astype(int) for network in networks
        )
        taken = [counts[row] for row in rows_in(chosen[label], images)]
        assert sorted(taken) == sorted(counts)[-2:]


def test_random_is_what_random_is_for_every_other_method(tmp_path):
    finished = choose(tmp_path / "run", "random", ipc=2, repeats=1)
    assert finished.summary["random"] is None
    beside = run(tmp_path / "idm", ipc=2, repeats=1)
    assert finished.summary["evaluation"]["mean"] == beside.summary["random"]["mean"]


def test_there_is_no_start_to_compare_with(tmp_path):
    summary = choose(tmp_path / "run", "herding", repeats=1).summary
    assert summary["start"] is None
    assert summary["random"]["repeats"] == summary["evaluation"]["repeats"] == 1


def test_seeds_choose_differently_and_the_same_seed_the_same(tmp_path):
    runs = {"a": 0, "b": 0, "c": 1}
    found = {n: pixels(choose(tmp_path / n, "random", seed=s).folder) for n, s in runs.items()}
    assert found["a"].tobytes() == found["b"].tobytes() != found["c"].tobytes()


@pytest.mark.parametrize("method", ["random", "herding", "kmeans"])
def test_a_class_of_too_few_images_gives_them_more_than_once(method, tmp_path):
    finished = choose(tmp_path / "run", method, ipc=25, limit_per_class=20)
    chosen = pixels(finished.folder).reshape(10, 25, 1, 8, 8)
    for label, images in enumerate(real(plan(method, ipc=25))):
        assert set(rows_in(chosen[label], images)) == set(range(20))


def test_a_run_that_was_complete_is_not_chosen_again(tmp_path):
    first = choose(tmp_path / "run", "herding")
    again = choose(tmp_path / "run", "herding", resume="auto")
    assert again.summary == json.loads((first.folder / "summary.json").read_text())


def test_options_of_matching_are_named_and_ignored(tmp_path):
    told = []
    choose(tmp_path / "run", "random", lambda_reg=0.1, listener=told.append)
    texts = [event.text for event in told if hasattr(event, "text")]
    assert "method random does not use --lambda-reg: ignored" in texts


def test_matching_needs_an_iteration(tmp_path):
    with pytest.raises(UserError, match="iterations must be at least 1 for method idm, got 0"):
        run(tmp_path / "run", iterations=0)
