import numpy as np
import pytest
import torch

from idm_ray.examining import evaluate, train_network, training_images
from idm_ray.plan import EvaluationJob
from idm_ray.real_images import RealImages
from idm_ray.workers import ClassWorker, QueueWorker, gather_images
from tests.data.making import images_of
from tests.making_runs import plan_of


@pytest.fixture(scope="module")
def plan():
    return plan_of(classes_per_group=3)[0]


def sequence(plan, iterations=2):
    """The networks to match in each iteration."""
    queue = QueueWorker(plan)
    found = []
    for iteration in range(iterations):
        found.append(queue.begin(iteration))
        queue.train(iteration)
    return found


def test_the_queue_reports_what_it_did(plan):
    queue = QueueWorker(plan)
    (snapshot,) = queue.begin(0)
    (report,) = queue.train(0).iterations
    assert (snapshot.age, snapshot.accuracy) == (0, 0)
    assert (report.iteration, report.size, report.ages, report.accuracies) == (0, 4, (0,), (0,))
    assert report.trained.images == 2 * 2 * 32
    assert 0 <= report.trained.correct <= report.trained.images
    assert snapshot.weights.dtype == np.float32
    assert queue.peak_memory_bytes() > 2**20


@pytest.mark.parametrize("calls", [[(0, 4)], [(0, 1), (1, 4)], [(0, 3), (3, 4)]], ids=str)
def test_a_queue_that_puts_training_off_serves_and_reports_the_same_in_calls_of_any_length(
    plan, calls
):
    plainly = QueueWorker(plan)
    expected = []
    for iteration in range(4):
        expected.append((plainly.begin(iteration), plainly.train(iteration).iterations[0]))
    ahead, served, reports = QueueWorker(plan), [], []
    for first, last in calls:
        snapshots, report = ahead.serve(first, last, needed=0)
        assert [r.iteration for r in report.iterations] == list(range(max(0, first - 1), last - 1))
        served += snapshots
        reports += report.iterations
    report = ahead.finish()
    assert report.busy_s > 0
    assert [*reports, *report.iterations] == [report for _, report in expected]
    assert ahead.finish().iterations == ()
    for (one,), ((other,), _) in zip(served, expected, strict=True):
        assert (one.model, one.age, one.accuracy) == (other.model, other.age, other.accuracy)
        assert np.array_equal(one.weights, other.weights)


def test_groups_give_the_same_images_alone_together_and_at_any_pace(plan):
    networks = sequence(plan)
    together = ClassWorker(plan, range(4))
    for iteration, snapshots in enumerate(networks):
        together.run(iteration, [snapshots])
    parts = []
    for groups in ([2], [3, 0], [1]):
        worker = ClassWorker(plan, groups)
        report = worker.run(0, networks)
        assert [group.classes for group in report.groups] == [plan.groups[g] for g in groups]
        assert [group.first_iteration for group in report.groups] == [0] * len(groups)
        assert report.groups[0].matching.shape == (2, len(plan.groups[groups[0]]))
        assert report.busy_s > 0
        parts.append(worker.images())
    expected = gather_images(together.images())
    assert expected.shape == (10, 1, 8, 8)
    assert np.array_equal(gather_images(*parts), expected)


def test_images_are_gathered_in_the_order_of_their_classes():
    def group(*labels):
        images = [np.full((2, 1, 4, 4), label, np.float32) for label in labels]
        return np.stack(images)

    gathered = gather_images({2: group(4), 0: group(0, 1)}, {1: group(2, 3)})
    assert gathered.shape == (10, 1, 4, 4)
    assert gathered[:, 0, 0, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_worker_s_images_are_a_copy(plan):
    worker = ClassWorker(plan, [3])
    before = worker.images()[3]
    kept = before.copy()
    worker.run(0, sequence(plan, 1))
    assert np.array_equal(before, kept)
    assert not np.array_equal(worker.images()[3], kept)


def job(subject, repeat=0):
    return EvaluationJob(subject=subject, repeat=repeat, iteration=3)


def test_equal_images_have_equal_accuracies_since_repeats_start_from_equal_networks(plan):
    start = gather_images(ClassWorker(plan, range(4)).images())
    for repeat in (0, 1):
        expected = evaluate(plan, job("start", repeat))
        assert evaluate(plan, job("condensed", repeat), start) == expected


def test_repeats_and_subjects_differ(plan):
    found = [evaluate(plan, job("random", repeat)) for repeat in (0, 1)]
    found.append(evaluate(plan, job("start")))
    assert len(set(found)) == 3
    assert all(0 < accuracy <= 1 for accuracy in found)


def test_evaluation_leaves_the_images_as_they_are(plan):
    images = gather_images(ClassWorker(plan, range(4)).images())
    before = images.copy()
    evaluate(plan, job("condensed"), images)
    assert np.array_equal(images, before)


def test_accuracy_is_that_of_the_validation_images_one_by_one():
    plan, dataset = plan_of(val_fraction=0.3, eval_split="validation", eval_epochs=5)
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (plan.info.mean, plan.info.std))
    with RealImages(plan) as real:
        network = train_network(plan, job("random"), training_images(plan, job("random"), real))
    right = 0
    for pixels, label in zip(images_of(dataset.validation), dataset.validation.labels, strict=True):
        image = (torch.from_numpy(pixels).float() / 255 - mean) / std
        with torch.no_grad():
            right += int(network(image[None])[0].argmax()) == label
    assert len(dataset.validation.images) == 60
    assert evaluate(plan, job("random")) == right / 60
    assert 0.1 < right / 60 < 1


def test_a_network_that_selects_is_tested_on_validation_images_whatever_others_are_tested_on():
    options = {"val_fraction": 0.3, "eval_epochs": 5}
    on_test, on_validation = (
        plan_of(**options, eval_split=split)[0] for split in ("test", "validation")
    )
    selecting = EvaluationJob(subject="random", repeat=0, iteration=3, split="validation")
    expected = evaluate(on_validation, job("random"))
    assert evaluate(on_test, selecting) == evaluate(on_validation, selecting) == expected
    assert (60 * expected).is_integer()
    assert evaluate(on_test, job("random")) != expected


def test_whole_data_are_trained_on_for_epochs_of_their_own():
    few, many = (plan_of(whole_epochs=epochs)[0] for epochs in (1, 8))
    assert evaluate(many, job("whole")) > evaluate(few, job("whole"))
