import dataclasses
import json
import re
from itertools import pairwise

import numpy as np
import pytest
import yaml
from PIL import Image

from idm_ray.config import DataConfig, RunConfig, option_names
from idm_ray.data.dataset import open_dataset
from idm_ray.errors import NonFiniteLossError, UserError
from idm_ray.execution import Finished, Started
from idm_ray.progress import Announcement, Committed, Evaluated, Progress
from idm_ray.resolving import resolve, settled
from idm_ray.results.condensed import read_arrays, read_card
from tests.data.making import images_of
from tests.making_runs import (
    TINY,
    metrics,
    pixels,
    pixels_of,
    progress_of,
    run,
    write_pictures,
)

EVALUATED = {"repeats": 2, "whole_epochs": 1}


@pytest.fixture(scope="module")
def events():
    """What the listener of the first run was told."""
    return []


@pytest.fixture(scope="module")
def first(tmp_path_factory, events):
    """A run with everything that there is to evaluate."""
    return run(tmp_path_factory.mktemp("runs") / "first", listener=events.append, **EVALUATED)


def summary_of(finished):
    return json.loads((finished.folder / "summary.json").read_text())


def config_of(finished):
    return yaml.safe_load((finished.folder / "config.yaml").read_text())


# --- What a run leaves behind ---


def test_a_run_leaves_its_files_and_no_others(first):
    assert {path.name for path in first.folder.iterdir()} == {
        "condensed.parquet",
        "config.yaml",
        "curves.png",
        "gallery.png",
        "metrics.jsonl",
        "summary.json",
        "tb",
    }


def test_the_summary_has_what_was_promised(first):
    summary = summary_of(first)
    assert list(summary) == [
        "method",
        "source",
        "num_classes",
        "ipc",
        "ratio",
        "iterations",
        "seconds",
        "seconds_per_iteration",
        "busy_seconds",
        "ray_share",
        "peak_rss_bytes",
        "device",
        "precision",
        "evaluation",
        "selected",
        "start",
        "random",
        "whole",
    ]
    assert (summary["method"], summary["source"], summary["num_classes"]) == ("idm", "digits", 10)
    assert (summary["ipc"], summary["iterations"], summary["ratio"]) == (1, 3, 10 / 200)
    assert 0 < summary["seconds"] < 60
    assert summary["seconds_per_iteration"] == pytest.approx(summary["seconds"] / 3)
    busy = summary["busy_seconds"]
    assert busy["matching"] + busy["training"] == pytest.approx(summary["seconds"])
    assert busy["longest_path"] == summary["seconds"]
    assert min(busy.values()) > 0
    assert summary["ray_share"] is None
    assert isinstance(summary["peak_rss_bytes"], int)
    assert summary["peak_rss_bytes"] > 2**20
    assert summary["device"] == "cpu"
    assert summary["precision"] in ("float32", "bfloat16")
    assert summary == first.summary


@pytest.mark.parametrize(
    ("subject", "epochs", "repeats"),
    [("evaluation", 2, 2), ("start", 2, 2), ("random", 2, 2), ("whole", 1, 1)],
)
def test_accuracies_are_fractions_with_their_protocol_beside_them(first, subject, epochs, repeats):
    result = summary_of(first)[subject]
    names = ["network", "protocol", "epochs", "split", "repeats", "mean", "std", "accuracies"]
    assert list(result) == names + ["selected_on"] * (subject == "evaluation")
    assert result["network"] == "convnet-2"
    assert (result["protocol"], result["split"]) == ("paper", "test")
    assert (result["epochs"], result["repeats"]) == (epochs, repeats)
    assert len(result["accuracies"]) == repeats
    assert all(0 < accuracy <= 1 for accuracy in result["accuracies"])
    assert result["mean"] == pytest.approx(np.mean(result["accuracies"]))
    assert result["std"] == pytest.approx(np.std(result["accuracies"]))
    assert result.get("selected_on", "last") == "last"


def test_the_metrics_are_one_json_object_a_line_with_increasing_iterations(first):
    lines = progress_of(first.folder)
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert list(line)[:4] == ["iteration", "seconds", "matching_loss", "regularization"]
        assert line["matching_loss"] > 0
        assert line["trained_images"] == 2 * TINY["train_steps"] * TINY["batch_train"]
        assert 0 <= line["matched_accuracy"] <= 1
        assert 0 <= line["waiting"] <= 1
        assert line["images_per_s"] > 0
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(lines))
    # 3 at the start; pushed at the iterations 0 and 2, when it was full.
    assert [line["queue_size"] for line in lines] == [4, 4, 4]


def test_every_accuracy_is_in_the_metrics(first):
    lines = [line for line in metrics(first.folder) if "accuracy" in line]
    found = {}
    for line in lines:
        assert line["iteration"] == 3
        found.setdefault(line["subject"], {})[line["repeat"]] = line["accuracy"]
    names = {"condensed": "evaluation", "start": "start", "random": "random", "whole": "whole"}
    for subject, name in names.items():
        accuracies = dict(enumerate(first.summary[name]["accuracies"]))
        assert found[subject] == accuracies


def test_the_config_says_all_that_is_needed_to_make_the_same_numbers_again(first):
    config = config_of(first)
    keys = ["format", "options", "data", "numerics", "processors", "command", "versions", "commit"]
    assert sorted(config) == sorted(keys)
    assert config["format"] == 1
    options = config["options"]
    assert list(options) == list(option_names())
    assert RunConfig.from_flat(options).flat() == options
    assert {name: options[name] for name in TINY} == {**TINY, "repeats": 2}
    assert (options["recipe"], options["network"], options["partition"]) == (
        "digits",
        "convnet-2",
        1,
    )
    for name in ("device", "precision", "compile", "threads", "classes_per_group"):
        assert options[name] != "auto"
    info = open_dataset(DataConfig(limit_per_class=20)).info
    assert config["data"] == {
        "name": "digits",
        "known_as": "digits",
        "fingerprint": info.fingerprint,
        "image_shape": [1, 8, 8],
        "num_classes": 10,
        "mean": list(info.mean),
        "std": list(info.std),
    }
    assert {"idm_ray", "torch", "numpy", "python"} <= set(config["versions"])
    assert all(re.match(r"\d+\.\d+", version) for version in config["versions"].values())
    assert config["command"]
    assert config["commit"] is None or re.fullmatch(r"\S*[0-9a-f]{40}(-dirty)?", config["commit"])


def test_the_set_s_card_agrees_with_the_summary(first):
    card = read_card(first.folder / "condensed.parquet")
    assert card.evaluation == first.summary["evaluation"]
    assert (card.method, card.recipe, card.network) == ("idm", "digits", "convnet-2")
    assert (card.ipc, card.partition, card.seed, card.iterations) == (1, 1, 0, 3)
    assert card.image_shape == (1, 8, 8)
    assert card.class_names == tuple("0123456789")
    assert not card.flips
    assert card.source == {
        "name": "digits",
        "fingerprint": config_of(first)["data"]["fingerprint"],
    }
    assert card.protocol == {
        "name": "paper",
        "epochs": 2,
        "lr_net": 0.01,
        "batch_train": 32,
        "repeats": 2,
    }


def test_the_gallery_is_a_picture(first):
    with Image.open(first.folder / "gallery.png") as picture:
        picture.load()
        assert min(picture.size) > 50


def test_the_listener_is_told_everything_in_order(first, events):
    kinds = [type(event) for event in events]
    assert kinds[0] is Announcement
    assert kinds[-1] is Finished
    assert events[-1] == first
    started = [event for event in events if isinstance(event, Started)]
    assert started == [Started("condense", 3), Started("evaluate", 7)]
    # A commit is told of once it is written, which a slow disk may have done a while later.
    assert Committed in kinds
    steps = [event for event in events if not isinstance(event, Committed)]
    between = steps[steps.index(started[0]) + 1 : steps.index(started[1])]
    assert [type(event) for event in between] == [Progress] * 3
    after = steps[steps.index(started[1]) + 1 : -1]
    assert [type(event) for event in after] == [Evaluated] * 7
    assert not [e for e in events if isinstance(e, Announcement) and e.warning]


def test_without_a_folder_the_next_free_one_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(run(None, iterations=1, method=m).folder) for m in ("idm", "idm", "dm")]
    assert names == ["runs/digits-idm-ipc1-1", "runs/digits-idm-ipc1-2", "runs/digits-dm-ipc1-1"]


# --- The same and other numbers ---


def test_the_same_options_give_the_same_pixels_and_accuracies(tmp_path, first):
    again = run(tmp_path, **EVALUATED)
    assert np.array_equal(pixels(tmp_path), pixels(first.folder))
    for name in ("evaluation", "start", "random", "whole"):
        assert again.summary[name] == first.summary[name]


def test_another_seed_gives_others(tmp_path, first):
    other = run(tmp_path, repeats=2, seed=1)
    assert not np.isclose(pixels(tmp_path), pixels(first.folder)).all(axis=(1, 2, 3)).any()
    for name in ("evaluation", "start", "random"):
        assert other.summary[name]["accuracies"] != first.summary[name]["accuracies"]


def test_evaluation_does_not_touch_the_pixels(tmp_path, first):
    assert np.array_equal(pixels_of(tmp_path, repeats=0), pixels(first.folder))


def test_a_copy_is_evaluated_in_between_without_changing_anything(tmp_path, first):
    events = []
    finished = run(tmp_path, repeats=2, eval_interval=1, listener=events.append)
    assert np.array_equal(pixels(tmp_path), pixels(first.folder))
    assert finished.summary["evaluation"] == first.summary["evaluation"]
    between = [e for e in events[: events.index(Started("evaluate", 6))] if type(e) is Evaluated]
    marks = [(e.job.subject, e.job.iteration, e.job.repeat) for e in between]
    # The last iteration is evaluated anyway.
    assert marks == [("condensed", i, repeat) for i in (1, 2) for repeat in (0, 1)]
    logged = [
        (line["iteration"], line["accuracy"])
        for line in metrics(tmp_path)
        if line.get("subject") == "condensed"
    ]
    assert logged[:4] == [(e.job.iteration, e.accuracy) for e in between]


def test_copies_are_evaluated_after_named_iterations_as_well(tmp_path):
    run(tmp_path, repeats=1, iterations=5, eval_interval=3, eval_at="9,2,3", baselines="off")
    between = [line["iteration"] for line in metrics(tmp_path) if line.get("subject")]
    assert between == [2, 3, 5]


def test_the_baselines_can_be_left_out(tmp_path, first):
    summary = summary_of(run(tmp_path, baselines="off", **EVALUATED))
    assert [summary["start"], summary["random"]] == [None, None]
    assert summary["evaluation"] == summary_of(first)["evaluation"]
    assert summary["whole"] == summary_of(first)["whole"]


def test_without_repeats_nothing_is_evaluated(tmp_path):
    finished = run(tmp_path, repeats=0, whole_epochs=3)
    summary = summary_of(finished)
    assert [summary[name] for name in ("evaluation", "start", "random", "whole")] == [None] * 4
    assert read_card(tmp_path / "condensed.parquet").evaluation is None
    assert not [line for line in metrics(tmp_path) if "accuracy" in line]


def test_a_run_that_is_tested_on_validation_images_says_so(tmp_path):
    events = []
    options = {"val_fraction": 0.2, "eval_split": "validation", **EVALUATED}
    finished = run(tmp_path, listener=events.append, **options)
    assert events[0].text == (
        "digits: 10 classes, 160 training, 40 validation and 359 test images of 1x8x8"
    )
    for subject in ("evaluation", "start", "random", "whole"):
        result = finished.summary[subject]
        assert result["split"] == "validation"
        assert all((40 * accuracy).is_integer() for accuracy in result["accuracies"])
    assert read_card(tmp_path / "condensed.parquet").evaluation["split"] == "validation"
    assert finished.summary["ratio"] == 10 / 160


def test_what_networks_are_tested_on_does_not_touch_the_pixels(tmp_path):
    options = {"val_fraction": 0.2, "repeats": 1}
    on_test = run(tmp_path / "test", **options)
    on_validation = run(tmp_path / "validation", **options, eval_split="validation")
    assert np.array_equal(pixels(on_test.folder), pixels(on_validation.folder))
    assert on_test.summary["evaluation"] != on_validation.summary["evaluation"]


# --- The method's parts ---

WHOLE_METHOD = {"partition": 2, "lambda_reg": 0.5, "queue_size": 4}


@pytest.fixture(scope="module")
def whole_method(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole method"
    return run(folder, **WHOLE_METHOD).folder


def total(folder, name):
    return sum(line.get(name, 0) for line in metrics(folder))


def test_with_all_parts_there_is_a_trained_queue_and_a_regularization(whole_method):
    assert total(whole_method, "regularization") > 0
    assert total(whole_method, "trained_images") > 0
    assert total(whole_method, "matched_age") > 0
    assert read_card(whole_method / "condensed.parquet").partition == 2


def test_partitioning_can_be_switched_off(tmp_path, whole_method):
    images = pixels_of(tmp_path, **WHOLE_METHOD | {"partition": 1})
    assert not np.array_equal(images, pixels(whole_method))
    assert read_card(tmp_path / "condensed.parquet").partition == 1


def test_the_regularization_can_be_switched_off(tmp_path, whole_method):
    images = pixels_of(tmp_path, **WHOLE_METHOD | {"lambda_reg": 0})
    assert not np.array_equal(images, pixels(whole_method))
    assert total(tmp_path, "regularization") == 0
    assert total(tmp_path, "trained_images") > 0


def test_the_queue_can_be_switched_off(tmp_path, whole_method):
    images = pixels_of(tmp_path, **WHOLE_METHOD | {"lambda_reg": 0, "queue_size": 0})
    assert not np.array_equal(images, pixels(whole_method))
    assert total(tmp_path, "trained_images") == total(tmp_path, "matched_age") == 0
    assert [line["queue_size"] for line in progress_of(tmp_path)] == [1, 1, 1]


PRETRAINED = {"pretrained": 2, "pretrain_steps": 5, "pretrained_classes": 3}


def test_the_queue_can_start_from_pretrained_networks_which_the_log_tells_of(
    tmp_path, monkeypatch, first
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    events, found = [], []
    for name in ("trained", "kept"):
        run(tmp_path / name, listener=events.append, **PRETRAINED)
        found.append(pixels(tmp_path / name))
    assert np.array_equal(*found)
    assert not np.array_equal(found[0], pixels(first.folder))
    said = [e.text for e in events if isinstance(e, Announcement) and "pretrained" in e.text]
    assert [re.sub(r"\d+\.\d", "#", text) for text in said] == [
        f"pretrained network {member}: 5 steps, training accuracy # %, {took}"
        for took in ("# s", "from the cache")
        for member in (0, 1)
    ]
    lines = metrics(tmp_path / "trained")
    assert [line["pretrained"] for line in lines[:2]] == [0, 1]
    assert [line["cached"] for line in metrics(tmp_path / "kept")[:2]] == [True, True]
    # 3 at the start; pushed at the iterations 0 and 2.
    pushed = [line for line in lines if "pushed" in line]
    assert [(line["iteration"], line["pushed"]) for line in pushed] == [
        *((0, model) for model in range(4)),
        (2, 4),
    ]
    rates = [line["lr"] for line in pushed]
    assert all(0.009 <= lr <= 0.011 for lr in rates)
    assert len(set(rates)) == len(rates)
    assert {line["member"] for line in pushed} == {0, 1}
    assert {line["num_classes"] for line in pushed} == {3}


def test_without_pretrained_networks_their_other_options_change_nothing(tmp_path, first):
    options = PRETRAINED | {"pretrained": 0}
    assert np.array_equal(pixels_of(tmp_path / "run", **options), pixels(first.folder))


@pytest.mark.parametrize("changed", [{"pretrain_steps": 6}, {"pretrained_classes": 2}])
def test_the_settings_of_pretraining_change_the_pixels(tmp_path, changed):
    one, other = (
        pixels_of(tmp_path / f"{i}", **PRETRAINED | options)
        for i, options in enumerate(({}, changed))
    )
    assert not np.array_equal(one, other)


def test_fresh_networks_of_every_iteration_can_be_pretrained_ones(tmp_path):
    options = {"queue_size": 0, "lambda_reg": 0.0}
    random = pixels_of(tmp_path / "random", **options)
    assert not np.array_equal(random, pixels_of(tmp_path / "run", **options, **PRETRAINED))


def test_pretraining_that_diverges_ends_the_run_and_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(NonFiniteLossError, match="pretrained network 0 are not finite after 5"):
        run(tmp_path / "run", **PRETRAINED, lr_net=1e30)
    assert not list((tmp_path / "cache" / "idm_ray" / "pretrained").glob("*.npy"))
    assert not (tmp_path / "run" / "condensed.parquet").exists()


def test_the_regularization_needs_the_queue(tmp_path):
    with pytest.raises(UserError, match=r"lambda_reg 0\.5 needs a model queue"):
        run(tmp_path / "run", queue_size=0)
    assert not (tmp_path / "run").exists()


def test_plain_distribution_matching_runs_with_its_own_settings(tmp_path):
    events = []
    finished = run(tmp_path, method="dm", repeats=1, listener=events.append)
    options = config_of(finished)["options"]
    names = ("method", "queue_size", "lambda_reg", "partition", "start", "lr_img")
    assert [options[name] for name in names] == ["dm", 0, 0.0, 1, "whole", 1.0]
    assert total(tmp_path, "regularization") == total(tmp_path, "trained_images") == 0
    assert finished.summary["method"] == "dm"
    assert 0 < finished.summary["evaluation"]["mean"] <= 1
    (warning,) = [e.text for e in events if isinstance(e, Announcement) and e.warning]
    assert warning == (
        "method dm does not use --queue-size, --push-interval, --train-steps: ignored"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"image_step": "per_class"},
        {"num_matched_models": 2},
        {"precision": "float32", "network": "convnet-3"},
        {"ipc": 3, "partition": 3},
    ],
    ids=str,
)
def test_other_settings_of_the_method_give_other_pixels(tmp_path, first, options):
    images = pixels_of(tmp_path, **options)
    assert np.isfinite(images).all()
    assert images.shape == (10 * options.get("ipc", 1), 1, 8, 8)
    assert not np.array_equal(images, pixels(first.folder))


def test_the_window_of_the_accuracy_changes_the_regularization_alone(tmp_path):
    one_model = {"queue_init": 1, "queue_size": 1, "push_interval": 100}
    lines = {}
    for window in ("lifetime", "last"):
        run(tmp_path / window, **one_model, accuracy_window=window)
        lines[window] = progress_of(tmp_path / window)
    names = ("matching_loss", "regularization", "matched_accuracy", "train_accuracy")
    first, second = ([[line[name] for name in names] for line in lines[w]] for w in lines)
    # One training was seen after the first iteration, two after the second.
    assert first[:2] == second[:2]
    assert first[2][0] == second[2][0]
    assert first[2][1] != second[2][1]
    assert lines["last"][2]["matched_accuracy"] == lines["last"][1]["train_accuracy"]


def test_the_classes_do_not_depend_on_how_many_networks_wait_unused(tmp_path, first):
    # The queue never fills up within these iterations either way.
    sizes = {"queue_init": 3, "push_interval": 5}
    small, large = (pixels_of(tmp_path / str(n), **sizes, queue_size=n) for n in (4, 50))
    assert np.array_equal(small, large)


# --- Where the images start ---


def started(tmp_path, **options):
    """The images of a run that hardly moves them."""
    return pixels_of(tmp_path, iterations=1, lr_img=1e-9, **options)


def real_images(label):
    dataset = open_dataset(DataConfig(limit_per_class=20))
    rows = np.float32(images_of(dataset.train, dataset.train.class_rows(label)))
    mean, std = (np.float32(values) for values in (dataset.info.mean, dataset.info.std))
    return (rows / 255 - mean) / std


def test_whole_start_images_are_real_images_of_the_class_all_different(tmp_path):
    images = started(tmp_path, start="whole", ipc=3, partition=2).reshape(10, 3, 1, 8, 8)
    for label in range(10):
        real = real_images(label)
        origins = {
            int(np.flatnonzero(np.isclose(real, image, atol=1e-5).all(axis=(1, 2, 3)))[0])
            for image in images[label]
        }
        assert len(origins) == 3


def test_each_tile_of_a_start_image_is_another_shrunken_real_image_of_the_class(tmp_path):
    images = started(tmp_path, start="tiles", partition=2)
    for label in range(10):
        small = real_images(label).reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
        tiles = images[label].reshape(2, 4, 2, 4).transpose(0, 2, 1, 3).reshape(4, 4, 4)
        origins = [
            int(np.flatnonzero(np.isclose(small, tile, atol=1e-5).all(axis=(1, 2)))[0])
            for tile in tiles
        ]
        assert len(set(origins)) == 4


def test_noise_is_standard_normal_whatever_the_class(tmp_path):
    images = started(tmp_path, start="noise", ipc=5)
    assert abs(images.mean()) < 0.1
    assert abs(images.std() - 1) < 0.1
    assert not np.isclose(images[:5], images[5:10]).any(axis=(1, 2, 3)).all()


# --- Data of other sizes ---


def test_a_batch_larger_than_the_class_is_the_whole_class(tmp_path):
    exact, larger = (pixels_of(tmp_path / str(n), batch_real=n) for n in (20, 1000))
    assert np.array_equal(exact, larger)


def test_classes_may_be_unequal_and_smaller_than_the_batch(tmp_path):
    counts = {"[a]": 3, "b": 14, "c d": 6}
    pictures = write_pictures(tmp_path / "my pictures", counts)
    finished = run(
        tmp_path / "run", data=str(pictures), limit_per_class=None, batch_real=5, repeats=1
    )
    images, labels, card = read_arrays(finished.folder / "condensed.parquet")
    assert (images.shape, images.dtype) == ((3, 3, 8, 8), np.float32)
    assert labels.tolist() == [0, 1, 2]
    assert card.class_names == ("[a]", "b", "c d")
    assert card.source["name"] == finished.summary["source"] == "my pictures"
    assert finished.summary["ratio"] == 3 / (2 + 11 + 5)
    assert np.isfinite(images).all()
    with Image.open(finished.folder / "gallery.png") as picture:
        picture.load()


def test_more_images_per_class_than_there_are_start_from_all_of_them_again(tmp_path):
    images = started(tmp_path, start="whole", ipc=7, limit_per_class=3).reshape(10, 7, 64)
    for of_class in images:
        assert len(np.unique(of_class.round(4), axis=0)) == 3


# --- Runs that end early ---


def test_a_run_that_diverges_names_class_model_and_iteration_and_leaves_a_readable_folder(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(
        NonFiniteLossError,
        match=r"^the loss of class \d is not finite at iteration 1, matched on model \d+; lower ",
    ):
        run(folder, lr_img=1e30)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "metrics.jsonl", "tb"}
    assert [line["iteration"] for line in progress_of(folder)] == [1]
    options = yaml.safe_load((folder / "config.yaml").read_text())["options"]
    assert options["lr_img"] == 1e30
    assert run(folder, overwrite=True).summary["iterations"] == 3
    assert [line["iteration"] for line in progress_of(folder)] == [1, 2, 3]


def test_an_interrupted_run_leaves_whole_lines_and_no_result(tmp_path):
    def interrupt(event):
        if isinstance(event, Progress) and event.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, listener=interrupt)
    assert [line["iteration"] for line in progress_of(tmp_path)] == [1, 2]
    assert not (tmp_path / "condensed.parquet").exists()
    assert not (tmp_path / "summary.json").exists()


def test_a_run_that_is_being_written_is_not_overwritten(tmp_path):
    refused = []

    def overwrite(event):
        if isinstance(event, Progress) and event.iteration == 2:
            with pytest.raises(UserError) as raised:
                run(tmp_path, overwrite=True)
            refused.append(str(raised.value))

    assert run(tmp_path, listener=overwrite).summary["iterations"] == 3
    assert refused == [f"another process is writing to {tmp_path}: wait for its end, or stop it"]
    assert run(tmp_path, overwrite=True).summary["iterations"] == 3


def test_the_result_is_there_before_its_evaluation(tmp_path):
    def interrupt(event):
        if isinstance(event, Evaluated):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, repeats=1, listener=interrupt)
    assert pixels(tmp_path).shape == (10, 1, 8, 8)
    assert read_card(tmp_path / "condensed.parquet").evaluation is None
    assert not (tmp_path / "summary.json").exists()


def test_wrong_options_are_refused_before_anything_is_made(tmp_path):
    for options in ({"ipc": 0}, {"partition": 5}, {"network": "convnet-9"}, {"data": "no/where"}):
        with pytest.raises(UserError):
            run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_is_finished_cannot_be_changed(first):
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.folder = None


@pytest.mark.parametrize(
    "options",
    [{}, {"lr_img": 0.3, "val_fraction": 0.2}, {"method": "dm", "train_steps": 3}, {"ipc": 5}],
    ids=str,
)
def test_options_are_settled_for_data_that_are_open_as_for_data_that_are_not(options):
    given = {"data": "digits", **options}
    config, info, _ = resolve(given)
    assert settled(given, info) == config
    with pytest.raises(UserError, match="partition must leave tiles"):
        settled(given | {"method": "idm", "partition": 5}, info)
