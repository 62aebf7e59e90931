"""Methods that match gradients, as whole runs."""

import numpy as np
import pytest
import yaml

from idm_ray.errors import UserError
from idm_ray.methods.gradients import published_rounds
from idm_ray.progress import Announcement
from idm_ray.recipes import Facts, resolve_options
from idm_ray.resolving import resolve
from idm_ray.results.condensed import read_card
from tests.making_runs import TINY, command, pixels, plan_of, progress_of, run

ROUNDS = {"ipc": 2, "outer_rounds": 2, "inner_epochs": 2}
OF_THE_QUEUE = ("queue_size", "push_interval", "train_interval", "train_steps")
SHORT = {name: value for name, value in TINY.items() if name not in OF_THE_QUEUE}


def said(options):
    """What is told of some options before a run."""
    return [note.text for note in resolve(SHORT | options)[2]]


@pytest.mark.parametrize("method", ["dc", "dsa"])
def test_a_run_moves_every_image_away_from_where_it_started(method, tmp_path):
    found = run(tmp_path / "run", method=method, **ROUNDS)
    images = pixels(found.folder).reshape(10, 2, -1)
    assert np.isfinite(images).all()
    start = pixels(run(tmp_path / "start", method=method, lr_img=1e-30, **ROUNDS).folder)
    moved = np.abs(images - start.reshape(images.shape)).max(axis=2)
    assert (moved > 0.01).all()
    card = read_card(found.folder / "condensed.parquet")
    assert (card.method, card.iterations, card.partition) == (method, 3, 1)
    for line in progress_of(found.folder):
        # Two networks of no, then of two epochs.
        assert (line["matched_age"], line["trained_images"]) == (2 * 1 / 2, 2 * 20)
        assert line["regularization"] == 0


def test_noise_is_what_one_starts_from_and_real_images_the_other(tmp_path):
    noise, real = (
        pixels(run(tmp_path / method, method=method, lr_img=1e-30, ipc=5).folder).ravel()
        for method in ("dc", "dsa")
    )
    assert abs(noise.mean()) < 0.1
    assert noise.std() == pytest.approx(1, abs=0.05)
    # Digits have 17 grey values.
    assert len(np.unique(real.round(3))) <= 17 < len(np.unique(noise.round(3)))


@pytest.mark.parametrize("options", [{}, ROUNDS], ids=["one round", "two rounds"])
def test_the_images_do_not_depend_on_the_groups(options, tmp_path):
    first, second = (
        pixels(run(tmp_path / str(size), method="dsa", **options, classes_per_group=size).folder)
        for size in (5, 3)
    )
    assert first.tobytes() == second.tobytes()


def test_rounds_and_inner_epochs_count(tmp_path):
    of = {
        name: pixels(run(tmp_path / name, method="dsa", **ROUNDS | other).folder).tobytes()
        for name, other in {
            "two rounds": {},
            "three": {"outer_rounds": 3},
            "more epochs": {"inner_epochs": 3},
            "another rate": {"lr_net": 0.02},
            "the same": {"compile": "off"},
        }.items()
    }
    assert of["two rounds"] == of["the same"]
    assert len(set(of.values())) == 4


@pytest.mark.parametrize(
    ("ipc", "outer", "inner", "row"),
    [
        *((1, 1, 1, 1), (5, 1, 1, 1), (6, 10, 50, 10), (10, 10, 50, 10), (15, 10, 50, 10)),
        *((20, 20, 25, 20), (31, 30, 20, 30), (44, 40, 15, 40), (50, 50, 10, 50)),
        (500, 50, 10, 50),
    ],
)
def test_rounds_are_the_published_ones_of_the_nearest_images_per_class(ipc, outer, inner, row):
    found = published_rounds(ipc)
    assert (found.outer, found.inner, found.ipc) == (outer, inner, row)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ipc": 1}, "1 outer round an iteration: published for 1 per class"),
        (
            {"ipc": 12},
            "10 outer rounds an iteration, 50 inner epochs between them: published for 10 per "
            "class, the nearest to 12",
        ),
        (
            {"ipc": 10, "outer_rounds": 3},
            "3 outer rounds an iteration, 50 inner epochs between them",
        ),
    ],
    ids=str,
)
def test_rounds_and_where_they_come_from_are_told(options, text):
    assert text in said({"method": "dc", **options})


def test_other_methods_have_no_rounds():
    assert not [text for text in said({"method": "dm"}) if "round" in text]
    assert "does not use --outer-rounds" in said({"outer_rounds": 3})[-1]
    assert plan_of()[0].rounds == 1


def test_settings_are_the_published_ones_unless_the_recipe_is_shorter():
    facts = Facts(known_as="cifar10", image_shape=(3, 32, 32), train_counts=(5000,) * 10)
    options, recipe = resolve_options({"method": "dc", "ipc": 10}, facts)
    expected = {"iterations": 1001, "batch_real": 256, "lr_img": 0.1, "momentum_img": 0.5}
    expected |= {"start": "noise", "partition": 1, "image_step": "joint", "queue_size": 0}
    expected |= {"network": "convnet-3", "lambda_reg": 0.0, "protocol": "paper"}
    config = {"protocol": "paper", **options}
    assert expected == {name: config[name] for name in expected}
    assert recipe.origin.startswith("DC's own settings")
    facts = Facts(known_as="digits", image_shape=(1, 8, 8), train_counts=(40,) * 10)
    assert resolve_options({"method": "dsa"}, facts)[0]["iterations"] == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outer_rounds": 0}, "outer_rounds must be at least 1, got 0"),
        ({"inner_epochs": -1}, "inner_epochs must be at least 1, got -1"),
        ({"outer_rounds": "many"}, "outer_rounds must be a whole number or 'auto', got 'many'"),
        ({"iterations": 0}, "iterations must be at least 1 for method dsa, got 0"),
        ({"network": "resnet18-bn", "size": 32}, "without batch norm to condense with"),
        ({"method": "dca"}, "unknown method 'dca'; did you mean 'dc'"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UserError) as refused:
        resolve({**SHORT, "method": "dsa", **options})
    assert message in str(refused.value)


def test_options_of_the_queue_are_ignored_with_a_warning():
    notes = resolve({**SHORT, "method": "dc", "partition": 2, "train_steps": 3})[2]
    assert (
        Announcement(
            "method dc does not use --partition, --train-steps: ignored",
            warning=True,
        )
        in notes
    )


def test_images_that_diverge_end_the_run_without_a_traceback(tmp_path):
    words = ("--local", "--method", "dc", "--lr-img", "1e30", "--limit-per-class", "20")
    words += ("--iterations", "3", "--repeats", "0", "--threads", "1", "--device", "cpu")
    outcome = command("condense", *words, "--out", tmp_path / "run")
    assert outcome.status != 0
    assert "is not finite" in outcome.err
    assert "lower lr_img" in outcome.err
    assert "Traceback" not in outcome.err


def test_the_config_of_a_run_says_its_rounds(tmp_path):
    found = run(tmp_path / "run", method="dsa", ipc=1)
    options = yaml.safe_load((found.folder / "config.yaml").read_text())["options"]
    assert (options["outer_rounds"], options["inner_epochs"]) == (1, 1)
