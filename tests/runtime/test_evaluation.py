"""Evaluation of a set's file as tasks."""

import json

import pytest

from idm_ray import evaluate
from tests.runtime.running import pixels_of


@pytest.mark.slow
def test_a_set_gets_the_accuracies_of_its_run_again(tmp_path):
    machine = {"threads": 1, "device": "cpu", "gpus_per_actor": 0}
    pixels_of(tmp_path / "run", repeats=2, eval_epochs=2, actors=1, **machine)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    again = evaluate(tmp_path / "run" / "condensed.parquet", data="digits", **machine)
    assert again.networks["convnet-2"]["accuracies"] == summary["evaluation"]["accuracies"]
