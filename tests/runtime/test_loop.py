"""The driver's loop, with actors that note what they are told."""

import numpy as np
import pytest
import ray

from idm_ray.algorithm.class_group import GroupReport
from idm_ray.algorithm.model_server import QueueReport
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.pace import WINDOW
from idm_ray.progress import Busy, Collector
from idm_ray.runtime.loop import Loop, Start
from idm_ray.runtime.snapshots import Snapshots
from idm_ray.workers import QueueWorkerReport, WorkerReport


@ray.remote(num_cpus=0)
class NotingQueue:
    """Serves the numbers of iterations instead of networks."""

    def __init__(self):
        self.calls = []

    def serve(self, first, last, *, needed):
        self.calls.append((first, last, needed))
        reports = tuple(
            QueueReport(iteration=i, size=1, ages=(0,), accuracies=(0,), trained=TrainMetrics())
            for i in range(first, last)
        )
        return list(range(first, last)), QueueWorkerReport(iterations=reports, busy_s=0.5)

    def finish(self):
        return QueueWorkerReport(iterations=(), busy_s=0.25)

    def told(self):
        return self.calls


@ray.remote(num_cpus=0)
class NotingActor:
    def start(self, number, busy_s):
        self.number, self.busy_s, self.blocks = number, busy_s, []

    def run(self, first, sequence):
        assert sequence == list(range(first, first + len(sequence)))
        self.blocks.append((first, first + len(sequence)))
        losses = np.ones((len(sequence), 1))
        group = GroupReport(
            classes=(self.number,), first_iteration=first, matching=losses, regularization=losses
        )
        return WorkerReport(groups=(group,), busy_s=self.busy_s)

    def told(self):
        return self.blocks


# Processes take long to start: all tests of this file use the same.
@pytest.fixture(scope="module")
def processes():
    started = [NotingActor.remote(), NotingActor.remote(), NotingQueue.remote()]
    yield started
    for process in started:
        ray.kill(process)


def make_loop(processes, iterations, *, pace, first=0, at=(0, 0), hang_timeout_s=0.0):
    *actors, queue = processes
    snapshots = Snapshots(queue, iterations, first=first)
    collector = Collector(iterations=iterations, starts=at, num_workers=len(actors))
    starts = [Start(actor, iteration) for actor, iteration in zip(actors, at, strict=True)]
    return (
        Loop(starts, snapshots, collector, pace=pace, hang_timeout_s=hang_timeout_s),
        snapshots,
        collector,
    )


def run_loop(processes, iterations, *, busy_s=(1.0, 2.0), **how):
    actors = processes[:-1]
    ray.get([a.start.remote(n, s) for n, (a, s) in enumerate(zip(actors, busy_s, strict=True))])
    loop, snapshots, collector = make_loop(processes, iterations, **how)
    while not loop.complete:
        loop.step(iterations)
        assert len(snapshots.served) <= snapshots.window
    return loop, snapshots, collector, ray.get([actor.told.remote() for actor in actors])


@pytest.mark.parametrize("per_call", [1, 3, 8, 1000])
def test_every_actor_goes_through_all_iterations_in_order(processes, per_call):
    _, _, collector, told = run_loop(processes, 37, pace=lambda seconds, window: per_call)
    for blocks in told:
        assert [i for first, last in blocks for i in range(first, last)] == list(range(37))
        assert max(last - first for first, last in blocks) == min(per_call, 16)
    (progress,) = collector.due(1.0)
    assert progress.iteration == 37
    assert progress.losses["matching_loss"] == len(told)


@pytest.mark.parametrize("per_call", [1, 3])
def test_a_loop_that_begins_late_asks_for_no_earlier_iteration(processes, per_call):
    # With calls of one iteration, no group needs what the first one gives.
    loop, _, collector, told = run_loop(
        processes, 20, pace=lambda seconds, window: per_call, first=7, at=(8, 11)
    )
    for blocks in told:
        assert [i for first, last in blocks for i in range(first, last)] == list(range(7, 20))
    assert loop.iteration == 20
    # What came before, not everybody reports.
    (progress,) = collector.due(1.0)
    assert progress.losses["matching_loss"] == len(told)


def test_the_queue_is_told_what_nobody_needs_any_more(processes):
    before = len(ray.get(processes[-1].told.remote()))
    run_loop(processes, 40, pace=lambda seconds, window: 4)
    calls = ray.get(processes[-1].told.remote())[before:]
    assert calls[0] == (0, 4, 0)
    for first, last, needed in calls:
        assert needed <= first
        assert last <= needed + WINDOW
    assert [needed for *_, needed in calls] == sorted(needed for *_, needed in calls)
    assert calls[-1][2] >= 40 - 2 * WINDOW


def test_a_straggler_is_told_of_once(processes):
    loop, *_ = run_loop(processes, 30, pace=lambda seconds, window: 1, busy_s=(1.0, 3.0))
    assert list(loop.news()) == [
        "class actor 1 takes 3.0 times as long for a class as the others, and the run goes at its "
        "pace"
    ]
    assert list(loop.news()) == []


def test_hiccups_of_a_short_time_are_not_judged(processes):
    loop, *_ = run_loop(processes, 9, pace=lambda seconds, window: 1, busy_s=(1.0, 3.0))
    assert list(loop.news()) == []


def test_the_pace_is_that_of_the_slowest_process_once_all_are_known(processes):
    asked = []

    def pace(seconds, window):
        asked.append((seconds, window))
        return 1

    loop, *_ = run_loop(processes, 6, pace=pace, busy_s=(0.125, 0.75))
    assert asked[0] == (float("inf"), 16)
    assert asked[-1] == (0.75, 16)
    assert {seconds for seconds, _ in asked} == {float("inf"), 0.75}
    # 6 calls of 0.75 s, the first after one of 0.5 s; the queue's took 6 * 0.5 + 0.25.
    assert loop.busy == Busy(matching_s=4.5, training_s=3.25, path_s=5.0)
    loop, *_ = run_loop(processes, 6, pace=pace, busy_s=(0.125, 0.25))
    # The last call of 0.25 s comes after six of 0.5 s, beside the queue's last of 0.25 s.
    assert loop.busy == Busy(matching_s=1.5, training_s=3.25, path_s=3.25)


def test_the_longest_path_of_computing_knows_that_the_queue_waits_for_the_window(processes):
    # Iteration 4 of the slower actor ends after 0.5 + 4 * 5 s, then the last snapshots are made
    # and trained on; meanwhile the actor goes on to 0.5 + 20 * 5 s.
    loop, snapshots = run_loop(processes, 20, pace=lambda seconds, window: 1, busy_s=(1.0, 5.0))[:2]
    assert snapshots.path_s == 0.5 + 4 * 5 + 0.5 + 0.25
    assert loop.busy.path_s == 0.5 + 20 * 5
