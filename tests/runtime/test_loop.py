"""The driver's loop, with actors that note what they are told."""

import numpy as np
import pytest
import ray

from idm_ray.algorithm.class_group import GroupReport
from idm_ray.algorithm.model_server import QueueReport
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.progress import Busy, Collector
from idm_ray.runtime.loop import Loop
from idm_ray.runtime.snapshots import Snapshots
from idm_ray.workers import QueueWorkerReport, WorkerReport


@ray.remote(num_cpus=0)
class NotingQueue:
    """Serves the numbers of iterations instead of networks."""

    def serve(self, first, last):
        reports = tuple(
            QueueReport(iteration=i, size=1, ages=(0,), accuracies=(0,), trained=TrainMetrics())
            for i in range(first, last)
        )
        return list(range(first, last)), QueueWorkerReport(iterations=reports, busy_s=0.5)

    def finish(self):
        return QueueWorkerReport(iterations=(), busy_s=0.25)


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


def run_loop(processes, iterations, *, pace, marks=(), busy_s=(1.0, 2.0)):
    *actors, queue = processes
    ray.get([a.start.remote(n, s) for n, (a, s) in enumerate(zip(actors, busy_s, strict=True))])
    snapshots = Snapshots(queue, iterations, marks)
    collector = Collector(iterations=iterations, num_groups=len(actors), num_workers=len(actors))
    ends = []
    loop = Loop(
        actors,
        snapshots,
        collector,
        pace=pace,
        at_block_end=lambda iteration, actor: ends.append(
            (iteration, actor.told.remote() if iteration in marks else None)
        ),
    )
    while not loop.complete:
        loop.step()
        assert len(snapshots.served) <= snapshots.window
    return loop, snapshots, collector, ray.get([actor.told.remote() for actor in actors]), ends


@pytest.mark.parametrize("per_call", [1, 3, 8, 1000])
def test_every_actor_goes_through_all_iterations_in_order(processes, per_call):
    _, _, collector, told, _ = run_loop(processes, 37, pace=lambda seconds, window: per_call)
    for blocks in told:
        assert [i for first, last in blocks for i in range(first, last)] == list(range(37))
        assert max(last - first for first, last in blocks) == min(per_call, 16)
    (progress,) = collector.due(1.0)
    assert progress.iteration == 37
    assert progress.losses["matching_loss"] == len(told)


def test_blocks_end_at_marks_where_what_is_submitted_sees_exactly_what_came_before(processes):
    _, _, _, told, ends = run_loop(processes, 20, pace=lambda seconds, window: 8, marks={3, 15})
    for blocks in told:
        assert {3, 15, 20} <= {last for _, last in blocks}
    for mark in (3, 15):
        seen = ray.get([there for iteration, there in ends if iteration == mark])
        assert [blocks[-1][1] for blocks in seen] == [mark, mark]


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
