import os
import re

import numpy as np
import pytest
from PIL import Image

from idm_ray.results.curves import _running_mean, write_curves


def progress(iteration, **values):
    return {
        "iteration": iteration,
        "matching_loss": 100 / iteration,
        "regularization": 0.0,
    } | values


def queue(iteration):
    accuracies = {"matched_accuracy": 0.4, "train_accuracy": 0.5}
    return progress(iteration, regularization=1.0, matched_age=2.0, **accuracies)


def evaluated(subject, repeat, iteration, accuracy):
    report = {"subject": subject, "repeat": repeat, "iteration": iteration}
    return report | {"accuracy": accuracy}


def texts(folder, reports, split="test"):
    """What is written in the picture: in SVG matplotlib notes it beside the outlines."""
    write_curves(folder / "curves.svg", reports, title="digits, idm, 1 per class", split=split)
    return re.findall(r"<!-- (.*?) -->", (folder / "curves.svg").read_text())


def test_a_run_is_drawn_as_png_and_nothing_else_is_left(tmp_path):
    write_curves(tmp_path / "curves.png", [progress(1), progress(2)], title="digits", split="test")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1200
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
    assert os.listdir(tmp_path) == ["curves.png"]


def test_plain_matching_without_evaluations_is_one_panel(tmp_path):
    # The networks are random: what they make of the classes says nothing.
    reports = [progress(iteration, matched_age=0.0, matched_accuracy=0.0) for iteration in (1, 2)]
    written = texts(tmp_path, reports)
    assert {"digits, idm, 1 per class", "matching loss,", "sum over classes", "iteration"} <= {
        *written
    }
    assert not {"regularization,", "accuracy, %"} & {*written}


def test_the_queue_has_its_regularization_and_its_accuracies(tmp_path):
    written = texts(tmp_path, [queue(1), queue(2)])
    assert {"regularization,", "accuracy, %"} <= {*written}
    assert {"queue, training batches", "matched networks, training"} <= {*written}


def test_accuracies_of_the_set_are_means_and_its_baselines_have_their_values(tmp_path):
    reports = [
        progress(1),
        *(evaluated("condensed", repeat, 1, 0.5) for repeat in (0, 1)),
        progress(2),
        *(evaluated("condensed", repeat, 2, 0.7 + repeat / 5) for repeat in (0, 1)),
        *(evaluated("start", repeat, 2, 0.25) for repeat in (0, 1)),
        evaluated("whole", 0, 2, 0.95),
    ]
    written = texts(tmp_path, reports, split="validation")
    assert {"condensed set: 80.0 ± 10.0,", "2 networks, validation images"} <= {*written}
    assert {"its own start: 25.0", "whole data: 95.0"} <= {*written}
    assert not any("random" in text for text in written)


def test_the_selected_iterate_and_the_last_one_stand_apart_from_what_one_is_selected_by(tmp_path):
    on_validation = {"split": "validation"}
    reports = [
        progress(1),
        *(evaluated("condensed", 0, at, at / 10) | on_validation for at in (1, 2, 3)),
        progress(3),
        evaluated("condensed", 0, 2, 0.65),
        *(evaluated("condensed", repeat, 3, 0.5 + repeat / 5) for repeat in (0, 1)),
        evaluated("start", 0, 3, 0.25),
    ]
    written = texts(tmp_path, reports)
    assert {"condensed set: 30.0,", "1 network, validation images"} <= {*written}
    assert {"iteration 2: 65.0,", "iteration 3: 60.0 ± 10.0,", "its own start: 25.0,"} <= {*written}
    assert written.count("test images") == 3
    # One that is both is drawn once.
    both = texts(tmp_path, [r for r in reports if r.get("accuracy") != 0.65])
    assert [text for text in both if text.startswith("iteration ")] == ["iteration 3: 60.0 ± 10.0,"]


def test_one_network_has_no_deviation(tmp_path):
    written = texts(tmp_path, [progress(1), evaluated("condensed", 0, 1, 0.5)])
    assert {"condensed set: 50.0,", "1 network, test images"} <= {*written}


def test_an_evaluation_that_is_logged_twice_counts_once(tmp_path):
    one, other = (evaluated("condensed", repeat, 1, 0.5) for repeat in (0, 1))
    assert "2 networks, test images" in texts(tmp_path, [progress(1), one, other, one])


def test_many_reports_are_drawn_with_their_running_mean(tmp_path):
    written = texts(tmp_path, [progress(iteration) for iteration in range(1, 101)])
    assert "mean of 5 reports" in written


def test_a_running_mean_has_no_edges():
    np.testing.assert_allclose(_running_mean(np.full(50, 3.0), 7), 3.0)
    np.testing.assert_allclose(_running_mean(np.arange(50.0), 5)[2:-2], np.arange(2.0, 48.0))


@pytest.mark.parametrize(
    "reports",
    [
        [],
        [{"checkpoint": 0, "at_iteration": 3}],
        [{"iteration": 1}],
        [{"iteration": 1, "matching_loss": "none"}],
        [{"subject": "condensed", "accuracy": 0.5}],
        [{"subject": "condensed", "accuracy": None, "repeat": 0, "iteration": 1}],
    ],
    ids=str,
)
def test_a_log_that_lacks_reports_is_drawn_all_the_same(tmp_path, reports):
    assert "no reports" in texts(tmp_path, reports)
