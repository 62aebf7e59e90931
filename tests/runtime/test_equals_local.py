"""The acceptance test: on Ray, whatever the layout, the images are those of the local runner."""

import json

import numpy as np
import pytest

from idm_ray.runtime import snapshots
from tests.runtime.running import pixels_of


@pytest.fixture(scope="module")
def local_pixels(tmp_path_factory):
    return pixels_of(tmp_path_factory.mktemp("local") / "run", local=True)


@pytest.mark.parametrize("actors", [pytest.param(1, marks=pytest.mark.slow), 2, 5])
def test_any_number_of_actors_gives_the_local_images_bit_for_bit(actors, local_pixels, tmp_path):
    pixels = pixels_of(tmp_path / "run", actors=actors, gpus_per_actor=0, cpus_per_actor=0.5)
    assert pixels.tobytes() == local_pixels.tobytes()


def test_a_window_of_one_iteration_gives_the_same_images(local_pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "WINDOW", 1)
    pixels = pixels_of(tmp_path / "run", actors=2, gpus_per_actor=0)
    assert pixels.tobytes() == local_pixels.tobytes()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"method": "dm"}, marks=pytest.mark.slow),
        {"num_matched_models": 2, "accuracy_window": 3, "image_step": "per_class"},
        {"method": "dsa", "ipc": 2, "outer_rounds": 3, "inner_epochs": 2},
        pytest.param({"method": "dc"}, marks=pytest.mark.slow),
        pytest.param({"partition": 1, "lambda_reg": 0.0, "queue_size": 0}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_run_equals_its_local_twin(options, tmp_path):
    local = pixels_of(tmp_path / "local", local=True, **options)
    on_ray = pixels_of(tmp_path / "ray", actors=2, gpus_per_actor=0, **options)
    assert on_ray.tobytes() == local.tobytes()


def test_evaluation_in_between_changes_no_image_and_gives_the_local_accuracies(
    local_pixels, tmp_path
):
    options = {"eval_interval": 2, "repeats": 2, "eval_epochs": 2, "whole_epochs": 1}
    found = {}
    for name, where in {"local": {"local": True}, "ray": {"actors": 2}}.items():
        folder = tmp_path / name
        assert pixels_of(folder, **options, **where).tobytes() == local_pixels.tobytes()
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        evaluations = [line for line in lines if "accuracy" in line]
        found[name] = {
            (line["subject"], line["iteration"], line["repeat"]): line["accuracy"]
            for line in evaluations
        }
        summary = json.loads((folder / "summary.json").read_text())
        assert len(summary["evaluation"]["accuracies"]) == 2
        assert min(summary["busy_seconds"].values()) > 0
        assert (summary["ray_share"] is None) == (name == "local")
        assert name == "local" or 0 <= summary["ray_share"] < 1
    assert found["ray"] == found["local"]
    in_between = {key for key in found["ray"] if key[0] == "condensed" and key[1] < 6}
    assert in_between == {("condensed", i, r) for i in (2, 4) for r in (0, 1)}


@pytest.mark.slow
def test_reports_of_both_runners_tell_the_same_losses(tmp_path):
    totals = {}
    for name, where in {"local": {"local": True}, "ray": {"actors": 3}}.items():
        pixels_of(tmp_path / name, gpus_per_actor=0, **where)
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        reports = [json.loads(line) for line in lines if "matching_loss" in line]
        iterations = np.diff([0, *(report["iteration"] for report in reports)])
        # A report is the mean over the iterations since the last; how many depends on timing.
        totals[name] = [
            np.dot(iterations, [report[loss] for report in reports])
            for loss in ("matching_loss", "regularization")
        ]
    np.testing.assert_allclose(totals["ray"], totals["local"], rtol=1e-12)


@pytest.mark.slow
def test_evaluation_in_between_waits_for_room_instead_of_hanging(tmp_path):
    # Three actors and the queue hold all four GPUs until the end.
    folder = tmp_path / "run"
    options = {"eval_interval": 3, "repeats": 1, "eval_epochs": 1}
    pixels_of(folder, actors=3, cpus_per_actor=1, **options)
    subjects = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    in_between = [s for s in subjects if s.get("subject") == "condensed" and s["iteration"] == 3]
    assert len(in_between) == 1
