"""What is measured of a run, when, and under which names."""

import itertools
import json
import re

import pytest

from idm_ray.monitoring import METRICS, Monitor
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Announcement, Busy, Committed, Evaluated, Lost, Progress, Record
from idm_ray.run import condense
from tests.making_runs import TINY

LINE = {
    "iteration": 4,
    "seconds": 2.0,
    "matching_loss": 3.5,
    "regularization": 0.25,
    "queue_size": 5,
    "matched_age": 20.0,
    "matched_accuracy": 0.5,
    "waiting": 0.125,
    "matching_data_waiting": 0.01,
    "matching_images_decoded": 30,
    "training_bytes_read": 1000,
    "images_per_s": 640.0,
}
PROGRESS = Progress(iteration=4, losses={}, queue={}, waiting=0.125)
COMMIT = Committed(number=3, iteration=4, bytes=12_000, written_bytes=4_000, seconds=0.5)


class Exported:
    """What was exported: the last value of a gauge, the sum of a counter."""

    def __init__(self):
        self.values = {}
        self.monitor = Monitor(self, clock=itertools.count(100, 10).__next__)

    def __call__(self, measurement):
        name, labels = measurement.metric.name, tuple(sorted(measurement.labels.items()))
        assert set(measurement.labels) == set(measurement.metric.labels)
        assert measurement.metric in METRICS
        before = self.values.get((name, labels), 0) if measurement.metric.kind == "counter" else 0
        self.values[name, labels] = before + measurement.value

    def __getitem__(self, name):
        name, *label = name.split()
        return self.values[name, tuple(tuple(one.split("=")) for one in label)]


@pytest.fixture
def exported():
    return Exported()


def evaluated(subject, accuracy, repeat=0, iteration=8):
    job = EvaluationJob(subject=subject, repeat=repeat, iteration=iteration)
    return Evaluated(job=job, accuracy=accuracy)


def test_a_run_that_begins_shows_at_once_all_that_alerts_look_at(exported):
    exported.monitor.start()
    exported.monitor.begin(Record(), planned=8, done=2)
    assert exported["idm_running"] == 1
    assert (exported["idm_iterations_planned"], exported["idm_iterations_done"]) == (8, 2)
    assert exported["idm_lost_processes"] == 0
    # A checkpoint is due from when condensing began.
    assert exported["idm_checkpoint_timestamp_seconds"] == 120
    assert exported["idm_progress_timestamp_seconds"] == 130
    exported.monitor.end()
    assert exported["idm_running"] == 0


def test_accuracies_by_which_an_iterate_is_selected_are_a_series_of_their_own(exported):
    job = EvaluationJob(subject="condensed", repeat=0, iteration=8, split="validation")
    exported.monitor.tell(Evaluated(job=job, accuracy=0.25), {})
    exported.monitor.tell(evaluated("condensed", 0.75), {})
    assert exported["idm_accuracy_ratio subject=condensed"] == 0.75
    assert exported["idm_accuracy_ratio subject=condensed_validation"] == 0.25


def test_a_report_of_progress_is_exported_with_its_line(exported):
    record = Record(seconds=1.0, busy=Busy(matching_s=0.5, training_s=0.25))
    exported.monitor.begin(record, planned=8, done=0)
    record.seconds, record.busy = 3.0, Busy(matching_s=1.5, training_s=0.75)
    exported.monitor.tell(PROGRESS, LINE)
    assert exported["idm_iterations_done"] == 4
    assert exported["idm_images_per_second"] == 640
    assert exported["idm_matching_loss"] == 3.5
    assert exported["idm_regularization"] == 0.25
    assert exported["idm_queue_size"] == 5
    assert exported["idm_matched_age_steps"] == 20
    assert exported["idm_matched_accuracy_ratio"] == 0.5
    assert exported["idm_waiting_ratio"] == 0.125
    assert exported["idm_data_waiting_ratio part=matching"] == 0.01
    assert exported["idm_data_waiting_ratio part=training"] == 0
    assert exported["idm_images_decoded part=matching"] == 30
    assert exported["idm_bytes_read part=training"] == 1000
    assert exported["idm_seconds part=condensing"] == 2
    assert exported["idm_seconds part=matching"] == 1
    assert exported["idm_seconds part=training"] == 0.5


def test_seconds_add_up_over_reports_and_nothing_is_counted_twice(exported):
    record = Record()
    exported.monitor.begin(record, planned=8, done=0)
    for seconds in (1.0, 3.0, 6.0):
        record.seconds = seconds
        exported.monitor.tell(PROGRESS, LINE)
    assert exported["idm_seconds part=condensing"] == 6
    assert ("idm_seconds", (("part", "matching"),)) not in exported.values


def test_checkpoints_losses_and_evaluations_are_exported(exported):
    exported.monitor.begin(Record(), planned=8, done=0)  # at 100 and 110
    exported.monitor.tell(COMMIT, {})
    assert exported["idm_checkpoint_timestamp_seconds"] == 120
    assert exported["idm_checkpoint_bytes"] == 12_000
    assert exported["idm_seconds part=checkpoint"] == 0.5
    exported.monitor.tell(Lost("class actor 1 lost", warning=True, so_far=2), {})
    assert exported["idm_lost_processes"] == 2
    exported.monitor.begin_evaluation()
    exported.monitor.tell(evaluated("condensed", 0.5), {})
    exported.monitor.tell(evaluated("condensed", 0.7, repeat=1), {})
    exported.monitor.tell(evaluated("random", 0.2), {})
    assert exported["idm_accuracy_ratio subject=condensed"] == pytest.approx(0.6)
    assert exported["idm_accuracy_ratio subject=random"] == 0.2
    assert exported["idm_seconds part=evaluation"] > 0


def test_copies_of_different_iterations_are_not_averaged(exported):
    exported.monitor.tell(evaluated("condensed", 0.2, iteration=4), {})
    exported.monitor.tell(evaluated("condensed", 0.8, iteration=8), {})
    assert exported["idm_accuracy_ratio subject=condensed"] == 0.8


def test_plain_messages_measure_nothing(exported):
    exported.monitor.tell(Announcement("a line"), {})
    assert exported.values == {}


def test_names_follow_the_conventions_of_prometheus():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"idm_[a-z_]+", metric.name)
        assert metric.text.endswith(".")
        assert metric.exported == f"ray_{metric.name}" + "_total" * (metric.kind == "counter")
        # Values that only make sense together have their unit in their name.
        assert not metric.name.endswith("_total")


def test_a_whole_run_exports_every_metric_that_its_kind_of_data_has(
    tmp_path, exported, monkeypatch
):
    monkeypatch.setattr("idm_ray.local.LocalRunner.enter", lambda runner, run: exported)
    options = {**TINY, "repeats": 1, "checkpoint_interval": 1}
    condense(out=tmp_path / "run", **options)
    found = {name for name, _ in exported.values}
    of_shards = {"idm_images_decoded", "idm_bytes_read"}
    assert found == {metric.name for metric in METRICS} - of_shards
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    mean = summary["evaluation"]["mean"]
    assert exported["idm_accuracy_ratio subject=condensed"] == pytest.approx(mean)
    assert exported["idm_seconds part=condensing"] == pytest.approx(summary["seconds"])
    assert exported["idm_running"] == 0


def test_a_run_is_worth_more_than_its_measurements(tmp_path, monkeypatch, caplog):
    def fails(measurement):
        raise RuntimeError("no room for metrics")

    monkeypatch.setattr("idm_ray.local.LocalRunner.enter", lambda runner, run: fails)
    finished = condense(out=tmp_path / "run", **TINY)
    assert finished.summary["iterations"] == TINY["iterations"]
    (record,) = [one for one in caplog.records if one.name == "idm_ray.monitoring"]
    assert "no room for metrics" in record.getMessage()
