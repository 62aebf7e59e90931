import itertools

import numpy as np
import pytest

from idm_ray.algorithm.class_group import GroupReport
from idm_ray.algorithm.model_server import QueueReport
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.pace import MAX_REPORTS
from idm_ray.progress import Collector
from idm_ray.real_images import DataReport
from idm_ray.workers import QueueWorkerReport, WorkerReport


def group(first, matching, regularization=0.0):
    """A group of one class over some iterations."""
    matching = np.array(matching, dtype=np.float64).reshape(len(matching), -1)
    return GroupReport(
        classes=tuple(range(matching.shape[1])),
        first_iteration=first,
        matching=matching,
        regularization=np.full_like(matching, regularization),
    )


def worker(*groups, busy_s=0.0, **data):
    return WorkerReport(groups=groups, busy_s=busy_s, data=DataReport(**data))


def queue(iteration, *, size=3, ages=(0,), accuracies=(0.0,), **trained):
    report = QueueReport(
        iteration=iteration,
        size=size,
        ages=ages,
        accuracies=accuracies,
        trained=TrainMetrics(**trained),
    )
    return QueueWorkerReport(iterations=(report,), busy_s=0.0)


def collector(iterations=4, *, groups=1, workers=1):
    return Collector(iterations=iterations, starts=[0] * groups, num_workers=workers)


def only(collector, elapsed_s=1.0):
    """The one report that is due."""
    (progress,) = collector.due(elapsed_s)
    return progress


def test_nothing_is_due_before_an_iteration_is_finished_by_all_groups():
    c = collector(groups=2)
    assert list(c.due(1.0)) == []
    c.add_worker(worker(group(0, [1, 1])))
    assert list(c.due(1.0)) == []
    c.add_worker(worker(group(0, [1])))
    assert only(c).iteration == 1
    assert not c.complete


PARTS = [
    worker(group(0, [1.0, 2.0])),
    worker(group(2, [3.0, 4.0])),
    worker(group(0, [10.0, 20.0, 30.0])),
    worker(group(3, [40.0])),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))), ids=str)
def test_reports_add_up_in_any_order(order):
    c = collector(groups=2)
    for part in order:
        assert not c.complete
        c.add_worker(PARTS[part])
    assert c.complete
    progress = only(c)
    assert progress.iteration == 4
    assert progress.losses["matching_loss"] == (11 + 22 + 33 + 44) / 4


def test_groups_of_one_worker_come_in_one_report():
    c = collector(2, groups=2)
    c.add_worker(worker(group(0, [1, 3]), group(0, [5, 7])))
    assert c.complete
    assert only(c).losses["matching_loss"] == 8


def test_losses_are_summed_over_classes_and_averaged_over_iterations():
    c = collector(2)
    c.add_worker(worker(group(0, [[1, 2, 3], [5, 6, 7]], regularization=0.5)))
    assert only(c).losses == {"matching_loss": 12.0, "regularization": 1.5}


def test_a_report_covers_only_what_came_since_the_last_one():
    c = collector(4)
    c.add_worker(worker(group(0, [1, 1])))
    assert only(c).losses["matching_loss"] == 1
    assert list(c.due(1.0)) == []
    c.add_worker(worker(group(2, [4, 6])))
    progress = only(c)
    assert (progress.iteration, progress.losses["matching_loss"]) == (4, 5)


def test_a_long_run_makes_a_bounded_number_of_reports():
    iterations = 20_001
    c = collector(iterations)
    reports = []
    for first in range(0, iterations, 10):
        c.add_worker(worker(group(first, np.ones(min(10, iterations - first)))))
        reports += c.due(1.0)
    assert MAX_REPORTS / 2 < len(reports) <= MAX_REPORTS + 1
    assert reports[-1].iteration == iterations
    numbers = [report.iteration for report in reports]
    assert numbers == sorted(set(numbers))


def test_the_last_iterations_are_reported_even_if_they_are_few():
    c = collector(2 * MAX_REPORTS + 1)
    c.add_worker(worker(group(0, np.ones(2 * MAX_REPORTS))))
    assert only(c).iteration == 2 * MAX_REPORTS
    c.add_worker(worker(group(2 * MAX_REPORTS, [7])))
    assert only(c).losses["matching_loss"] == 7
    assert list(c.due(1.0)) == []


def test_no_report_straddles_the_end_of_those_that_were_made_before():
    c = Collector(iterations=9, starts=[0, 2], num_workers=1, at=4, told=6)
    c.add_worker(worker(group(0, [1, 1, 1, 1, 1, 5, 7, 9])))
    assert list(c.due(1.0)) == []
    c.add_worker(worker(group(2, [1, 1, 1, 1, 1, 1])))
    again, new = c.due(1.0)
    assert (again.iteration, again.losses["matching_loss"]) == (6, 2 + (0 + 4) / 2)
    assert (new.iteration, new.losses["matching_loss"]) == (8, 1 + (7 + 9) / 2)
    c.add_worker(worker(group(8, [2]), group(8, [3])))
    assert c.complete
    assert only(c).losses["matching_loss"] == 5


def test_what_was_reported_beyond_where_a_run_goes_on_is_reported_up_to_there_again():
    c = Collector(iterations=2 * MAX_REPORTS, starts=[3], num_workers=1, at=10, told=13)
    c.add_worker(worker(group(3, np.arange(3, 13))))
    assert only(c).iteration == 13  # a report of two iterations would end with the 14th
    c.add_worker(worker(group(13, [4, 6])))
    assert only(c).losses["matching_loss"] == 5


def test_waiting_is_the_share_of_time_without_computing_since_the_last_report():
    c = collector(3, workers=2, groups=2)
    c.add_worker(worker(group(0, [1]), busy_s=1.0))
    c.add_worker(worker(group(0, [1]), busy_s=2.0))
    assert only(c, elapsed_s=2.0).waiting == 1 - 3 / 4
    c.add_worker(worker(group(1, [1, 1]), group(1, [1, 1]), busy_s=1.0))
    assert only(c, elapsed_s=5.0).waiting == 1 - 1 / 10


def test_waiting_is_never_negative():
    c = collector()
    c.add_worker(worker(group(0, [1]), busy_s=1.001))
    assert only(c, elapsed_s=1.0).waiting == 0


def test_the_queue_is_summarised_over_the_same_iterations():
    c = collector()
    c.add_queue(queue(0, size=4, ages=(10, 0), accuracies=(0.5, 0.0), images=30, correct=3, loss=9))
    c.add_queue(queue(1, size=5, ages=(20, 2), accuracies=(0.7, 0.2), images=10, correct=7, loss=3))
    c.add_queue(queue(2, size=6, ages=(99, 99), accuracies=(1.0, 1.0)))
    c.add_worker(worker(group(0, [1, 1])))
    assert only(c).queue == {
        "queue_size": 5,
        "matched_age": 8.0,
        "matched_accuracy": pytest.approx(0.35),
        "trained_images": 40,
        "train_accuracy": 0.25,
        "train_loss": 0.3,
    }
    c.add_worker(worker(group(2, [1])))
    assert only(c).queue["queue_size"] == 6


def test_a_queue_that_did_not_train_says_nothing_of_training():
    c = collector()
    c.add_queue(queue(0, size=1))
    c.add_worker(worker(group(0, [1])))
    assert only(c).queue == {"queue_size": 1, "matched_age": 0.0, "matched_accuracy": 0.0}


def test_a_queue_that_has_not_reported_yet_is_left_out():
    c = collector()
    c.add_worker(worker(group(0, [1])))
    assert only(c).queue == {}


def test_what_a_queue_did_is_told_with_the_next_report_if_it_comes_late():
    c = collector(iterations=2)
    c.add_worker(worker(group(0, [1])))
    assert only(c).queue == {}
    c.add_worker(worker(group(1, [1])))
    c.add_queue(queue(0, images=30, correct=3, loss=9))
    c.add_queue(queue(1, size=4))
    told = only(c).queue
    assert (told["queue_size"], told["trained_images"], told["train_accuracy"]) == (4, 30, 0.1)


def trained(busy_s=0.0, **data):
    return QueueWorkerReport(iterations=(), busy_s=busy_s, data=DataReport(**data))


def test_what_images_took_is_added_up_over_all_workers_of_a_kind():
    c = collector(2, groups=2, workers=2)
    c.add_worker(worker(group(0, [1]), busy_s=3.0, waited_s=1.0, decoded=5, bytes_read=700))
    c.add_worker(worker(group(0, [1]), busy_s=1.0, waited_s=1.0, decoded=2))
    c.add_queue(trained(busy_s=8.0, waited_s=2.0, bytes_read=10))
    c.add_queue(trained(busy_s=2.0, decoded=1))
    assert only(c).data == {
        "matching_data_waiting": 0.5,
        "matching_images_decoded": 7,
        "matching_bytes_read": 700,
        "training_data_waiting": 0.2,
        "training_images_decoded": 1,
        "training_bytes_read": 10,
    }
    c.add_worker(worker(group(1, [1]), group(1, [1]), busy_s=1.0))
    assert only(c).data == {}


def test_what_several_processes_notice_is_told_once():
    c = collector(3)
    c.add_worker(worker(group(0, [1]), notes=("full", "slow")))
    c.add_queue(trained(notes=("full",)))
    assert only(c).notes == ("full", "slow")
    c.add_worker(worker(group(1, [1]), notes=("slow", "new")))
    assert only(c).notes == ("new",)
    c.add_worker(worker(group(2, [1])))
    assert only(c).notes == ()


def test_what_data_took_is_told_once_where_two_reports_are_made_at_once():
    c = Collector(iterations=4, starts=[0], num_workers=1, told=1)
    c.add_worker(worker(group(0, [1, 1]), busy_s=1.0, decoded=30, bytes_read=700))
    reports = list(c.due(1.0))
    assert [one.iteration for one in reports] == [1, 2]
    assert sum(one.data.get("matching_images_decoded", 0) for one in reports) == 30
    assert sum(one.data.get("matching_bytes_read", 0) for one in reports) == 700
