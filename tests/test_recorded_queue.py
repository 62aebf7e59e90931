import numpy as np
import pytest

from idm_ray.errors import NonFiniteLossError
from idm_ray.recorded_queue import Counts, RecordedQueue
from idm_ray.workers import QueueWorker, pretrain
from tests.making_runs import plan_of

ITERATIONS = 6


@pytest.fixture(scope="module")
def plan():
    return plan_of(iterations=ITERATIONS, num_matched_models=2)[0]


@pytest.fixture(scope="module")
def expected(plan):
    """What a queue of one run's own serves and reports, an iteration at a time."""
    queue = QueueWorker(plan)
    found = [
        (queue.begin(iteration), queue.train(iteration).iterations[0])
        for iteration in range(ITERATIONS)
    ]
    queue.close()
    return [snapshots for snapshots, _ in found], [report for _, report in found]


def recorded(plan, made=None):
    """A queue that keeps what it served in a store, by number; `made` counts what it builds."""

    def make():
        if made is not None:
            made.append(plan)
        return QueueWorker(plan)

    store = []

    def keep(snapshots):
        store.append(snapshots)
        return len(store) - 1

    return RecordedQueue(make, keep=keep, recall=store.__getitem__)


class Consumer:
    """A run that asks for networks in blocks of its own, and remembers what it got."""

    def __init__(self, queue, block):
        self.queue, self.block, self.at = queue, block, 0
        self.served, self.reports = [], []

    def ask(self):
        last = min(self.at + self.block, ITERATIONS)
        sequence, report = self.queue.serve(self.at, last, needed=self.at)
        told = [report.iteration for report in report.iterations]
        assert told == list(range(max(0, self.at - 1), last - 1))
        self.served += sequence
        self.reports += report.iterations
        self.at = last

    def finish(self):
        while self.at < ITERATIONS:
            self.ask()
        self.reports += self.queue.finish().iterations
        return self.served, self.reports


def assert_same(found, expected):
    (served, reports), (of_a_worker, reported) = found, expected
    assert reports == reported
    for ours, theirs in zip(served, of_a_worker, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one.model, one.age, one.accuracy) == (other.model, other.age, other.accuracy)
            assert one.weights.tobytes() == other.weights.tobytes()


@pytest.mark.parametrize("block", [1, 2, 4, ITERATIONS])
def test_it_serves_and_reports_what_a_queue_of_the_run_s_own_does_bit_for_bit(
    plan, expected, block
):
    assert_same(Consumer(recorded(plan), block).finish(), expected)


def test_it_serves_the_same_again_in_blocks_of_other_sizes_and_trains_once(plan, expected):
    queue = recorded(plan)
    for times, block in enumerate((4, 1, ITERATIONS), start=1):
        assert_same(Consumer(queue, block).finish(), expected)
        assert queue.counts() == Counts(trained=ITERATIONS, served=times * ITERATIONS)


def test_runs_at_different_paces_get_the_same(plan, expected):
    queue = recorded(plan)
    fast, slow = Consumer(queue, 3), Consumer(queue, 1)
    fast.ask()
    slow.ask()
    assert queue.counts() == Counts(trained=2, served=4)
    slow.ask()
    assert_same(fast.finish(), expected)
    assert_same(slow.finish(), expected)
    assert queue.counts() == Counts(trained=ITERATIONS, served=2 * ITERATIONS)


def test_a_run_that_falls_behind_and_is_overtaken_gets_the_same(plan, expected):
    queue = recorded(plan)
    first, second = Consumer(queue, 2), Consumer(queue, 5)
    first.ask()
    second.ask()
    assert_same(first.finish(), expected)
    assert_same(second.finish(), expected)


def test_the_state_is_that_before_the_first_iteration_however_much_was_served(plan):
    queue, worker = recorded(plan), QueueWorker(plan)
    first, versions = worker.state()
    worker.close()
    for _ in range(2):
        state, own = queue.state()
        assert state == first
        assert state.iteration == 0
        assert own.keys() == versions.keys()
        for key, version in own.items():
            assert np.array_equal(version.weights, versions[key].weights)
        Consumer(queue, 2).finish()


def test_the_state_leaves_out_networks_that_are_known():
    plan, _ = plan_of(pretrained=1, pretrain_steps=1, pretrained_classes=3)
    (network,), _ = pretrain(plan, plan.pretraining[0])
    queue = RecordedQueue(
        lambda: QueueWorker(plan, network), keep=lambda kept: kept, recall=lambda kept: kept
    )
    _, (known, *others) = queue.state()
    state, versions = queue.state({known})
    assert list(versions) == others
    assert known in [model.version for model in state.models]


def test_nothing_is_built_before_it_is_needed_and_only_once(plan):
    made = []
    queue = recorded(plan, made)
    assert queue.counts() == Counts(trained=0, served=0)
    assert made == []
    queue.state()
    queue.serve(0, 1, needed=0)
    queue.state()
    assert len(made) == 1


def test_finishing_twice_or_before_anything_was_served_trains_nothing(plan, expected):
    queue = recorded(plan)
    assert queue.finish().iterations == ()
    assert_same(Consumer(queue, 2).finish(), expected)
    assert queue.finish().iterations == (expected[1][-1],)
    assert queue.counts().trained == ITERATIONS


def test_every_run_that_asks_for_what_cannot_be_trained_is_told_the_same_cause():
    queue = recorded(plan_of(iterations=ITERATIONS, lr_net=1e20)[0])
    causes = []
    for block in (ITERATIONS, 2, 1):
        with pytest.raises(NonFiniteLossError) as cause:
            Consumer(queue, block).finish()
        causes.append(str(cause.value))
    assert len(set(causes)) == 1


class FailsOnce(QueueWorker):
    """Fails once, in the middle of a block."""

    has_failed = False

    def begin(self, iteration):
        if iteration == 2 and not FailsOnce.has_failed:
            FailsOnce.has_failed = True
            raise OSError("the disk is away")
        return super().begin(iteration)


def test_after_an_error_in_the_middle_the_sequence_is_still_the_same(plan, expected):
    store = []

    def keep(snapshots):
        store.append(snapshots)
        return len(store) - 1

    queue = RecordedQueue(lambda: FailsOnce(plan), keep=keep, recall=store.__getitem__)
    with pytest.raises(OSError, match="the disk is away"):
        queue.serve(0, 4, needed=0)
    assert_same(Consumer(queue, 2).finish(), expected)
