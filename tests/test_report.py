import numpy as np
import pytest

from idm_ray.algorithm.model_start import draw_start
from idm_ray.plan import EvaluationJob
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import Busy, Evaluated, Progress, Record
from idm_ray.report import (
    PushLog,
    RateMeter,
    make_card,
    metrics_line,
    pretrained_line,
    pretrained_text,
    statistics,
    summarise,
)
from idm_ray.results.metrics_log import MetricsLog
from tests.making_runs import metrics, plan_of


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


def test_a_line_of_a_network_that_selects_names_its_images():
    job = EvaluationJob(subject="condensed", repeat=0, iteration=7, split="validation")
    assert metrics_line(Evaluated(job=job, accuracy=0.5), 2.0) == {
        "seconds": 2.0,
        "subject": "condensed",
        "repeat": 0,
        "iteration": 7,
        "split": "validation",
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


def test_copies_of_pretrained_networks_are_listed_when_they_have_entered():
    plan, _ = plan_of(
        pretrained=4, pretrained_classes=3, queue_init=2, push_interval=3, queue_size=3, seed=5
    )
    log = PushLog(plan)
    lines = [*log.up_to(progress(3)), *log.up_to(Evaluated(job=JOB, accuracy=0.5))]
    assert [(line["iteration"], line["pushed"]) for line in lines] == [(0, 0), (0, 1), (0, 2)]
    lines += log.up_to(progress(4))
    assert list(log.up_to(progress(6))) == []
    assert list(log.up_to(progress(2))) == []  # the run went back
    lines += log.up_to(progress(10))
    entered = [(line["iteration"], line["pushed"]) for line in lines[3:]]
    assert entered == [(3, 3), (6, 4), (9, 5)]
    for model, line in enumerate(lines):
        start = draw_start(plan.config.queue, model, num_classes=10, seed=5)
        assert (line["member"], line["lr"], line["num_classes"]) == (start.member, start.lr, 3)


@pytest.mark.parametrize("options", [{}, {"pretrained": 2, "queue_size": 0, "lambda_reg": 0.0}])
def test_networks_that_begin_alike_or_are_never_trained_are_not_listed(options):
    plan, _ = plan_of(**options)
    assert list(PushLog(plan).up_to(progress(3))) == []


@pytest.mark.parametrize(
    ("cached", "obstacle", "end"),
    [
        (False, "", "2.3 s"),
        (True, "", "from the cache"),
        (False, "x: full", "2.3 s, not kept for the next run (x: full)"),
    ],
)
def test_a_pretrained_network_is_told_with_its_steps_accuracy_and_time(cached, obstacle, end):
    report = PretrainReport(
        member=1, steps=40, accuracy=0.25, seconds=2.34567, cached=cached, obstacle=obstacle
    )
    text = f"pretrained network 1: 40 steps, training accuracy 25.0 %, {end}"
    assert pretrained_text(report) == text
    assert pretrained_line(report) == {
        "pretrained": 1,
        "steps": 40,
        "train_accuracy": 0.25,
        "pretrain_seconds": 2.346,
        "cached": cached,
    }


def test_every_kind_of_line_is_logged_once_however_often_it_is_reported(tmp_path):
    plan, _ = plan_of(pretrained=2, queue_init=2)
    report = PretrainReport(member=0, steps=4, accuracy=0.5, seconds=1.0, cached=False)
    lines = [
        pretrained_line(report),
        *PushLog(plan).up_to(progress(1)),
        metrics_line(progress(1), 1.0),
        metrics_line(Evaluated(job=JOB, accuracy=0.5), 2.0),
    ]
    for _ in range(2):
        log = MetricsLog(tmp_path / "metrics.jsonl")
        for line in lines:
            log.add(line | {"seconds": 3.0})
    assert metrics(tmp_path) == [line | {"seconds": 3.0} for line in lines]


def test_subjects_that_were_not_evaluated_are_none():
    plan, _ = plan_of(iterations=4, ipc=5)
    summary = summarise(plan, Record(seconds=6.0, peak_memory_bytes=123), {"start": [0.25, 0.75]})
    assert (summary["seconds_per_iteration"], summary["peak_rss_bytes"]) == (1.5, 123)
    assert summary["ratio"] == 5 * 10 / 200
    assert [summary[name] for name in ("evaluation", "random", "whole")] == [None] * 3
    assert summary["start"]["mean"] == 0.5
    assert "selected_on" not in summary["start"]


def test_the_selected_iterate_has_its_own_figures_and_those_it_was_selected_by():
    options = {"iterations": 4, "eval_at": "2", "repeats": 2, "val_fraction": 0.2}
    plan, _ = plan_of(**options, select="validation")
    on_validation = {2: (0.5, 0.75), 4: (0.5, 0.5)}
    on_test = {2: (0.25, 0.25), 4: (1.0, 1.0)}  # decides nothing
    evaluated = {
        EvaluationJob(subject="condensed", repeat=repeat, iteration=at, split=split): accuracy
        for split, found in (("validation", on_validation), ("eval_split", on_test))
        for at, accuracies in found.items()
        for repeat, accuracy in enumerate(accuracies)
    }
    record = Record(seconds=6.0, evaluated=evaluated)
    selected = summarise(plan, record, {"condensed": [1.0, 1.0]})["selected"]
    assert (selected["iteration"], selected["among"]) == (2, [2, 4])
    assert (selected["split"], selected["accuracies"]) == ("test", [0.25, 0.25])
    assert selected["validation"]["accuracies"] == [0.5, 0.75]
    assert make_card(plan, selected, iteration=2).iterations == 2
    assert make_card(plan, None).iterations == 4


def test_the_share_of_ray_is_what_the_longest_path_of_computing_leaves():
    on_ray, alone = (plan_of(local=local)[0] for local in (False, True))
    busy = Busy(matching_s=5.0, training_s=4.0, path_s=6.0)
    summary = summarise(on_ray, Record(seconds=8.0, busy=busy), {})
    assert summary["ray_share"] == 0.25
    assert summary["busy_seconds"] == {"matching": 5.0, "training": 4.0, "longest_path": 6.0}
    assert summarise(alone, Record(seconds=8.0), {})["ray_share"] is None


def test_the_card_describes_the_plan():
    plan, dataset = plan_of(ipc=3, partition=2, seed=8, lr_net=0.02, network="convnet-1")
    card = make_card(plan, evaluation={"mean": 0.5})
    assert (card.image_shape, card.num_images) == ((1, 8, 8), 30)
    assert (card.mean, card.std) == (dataset.info.mean, dataset.info.std)
    assert (card.network, card.partition, card.seed) == ("convnet-1", 2, 8)
    assert card.protocol["lr_net"] == 0.02
    assert card.evaluation == {"mean": 0.5}
    assert card.versions["numpy"] == np.__version__
