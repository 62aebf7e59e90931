"""The driver's loop where classes meet, with actors that note what they are told."""

import threading

import numpy as np
import pytest
import ray

from idm_ray.algorithm.class_group import GroupReport
from idm_ray.algorithm.model_server import QueueReport
from idm_ray.algorithm.steps import TrainMetrics
from idm_ray.errors import ActorLostError
from idm_ray.progress import Busy, Collector
from idm_ray.runtime.meeting import MeetingLoop
from idm_ray.workers import QueueWorkerReport, WorkerReport

ROUNDS = 3


@ray.remote(num_cpus=0)
class NotingQueue:
    """Serves the numbers of a round instead of networks."""

    def __init__(self):
        self.calls = []

    def serve_round(self, iteration, round_, *images):
        self.calls.append((iteration, round_, images))
        told = QueueReport(
            iteration=iteration - 1, size=1, ages=(0,), accuracies=(0,), trained=TrainMetrics()
        )
        reports = (told,) if iteration and not round_ else ()
        return (iteration, round_), QueueWorkerReport(iterations=reports, busy_s=0.5)

    def finish(self):
        return QueueWorkerReport(iterations=(), busy_s=0.25)

    def told(self):
        calls, self.calls = self.calls, []
        return calls


@ray.remote(num_cpus=0)
class NotingActor:
    def start(self, number, busy_s):
        self.number, self.busy_s, self.last = number, busy_s, None

    def run_round(self, iteration, round_, snapshots):
        assert snapshots == (iteration, round_)
        self.last = snapshots
        losses = np.ones((int(round_ + 1 == ROUNDS), 1))
        group = GroupReport(
            classes=(self.number,),
            first_iteration=iteration,
            matching=losses,
            regularization=losses,
        )
        return WorkerReport(groups=(group,), busy_s=self.busy_s)

    def images(self):
        return self.number, self.last

    def hang(self):
        threading.Event().wait()  # which nobody sets


# Processes take long to start: all tests of this file use the same.
@pytest.fixture(scope="module")
def processes():
    started = [NotingActor.remote(), NotingActor.remote(), NotingQueue.remote()]
    yield started
    for process in started:
        ray.kill(process)


def make_loop(processes, iterations, *, busy_s=(1.0, 2.0), **how):
    *actors, queue = processes
    ray.get([a.start.remote(n, s) for n, (a, s) in enumerate(zip(actors, busy_s, strict=True))])
    first = how.get("first", 0)
    collector = Collector(iterations=iterations, starts=[first, first], num_workers=2)
    loop = MeetingLoop(actors, queue, collector, rounds=ROUNDS, iterations=iterations, **how)
    return loop, collector


def test_every_round_sees_the_images_of_all_after_the_one_before(processes):
    loop, collector = make_loop(processes, 5, first=2)
    while not loop.pauses_at(4):
        assert loop.iteration < 4
        loop.step(4)
    loop.step(4)  # nothing to do
    assert loop.pauses_at(4)
    while not loop.complete:
        assert loop.iteration >= 4
        loop.step(5)
    assert loop.iteration == 5
    expected = [
        (t, r, tuple((actor, (t, r - 1)) for actor in (0, 1)) if r else ())
        for t in range(2, 5)
        for r in range(ROUNDS)
    ]
    calls = ray.get(processes[-1].told.remote())
    assert calls[-len(expected) :] == expected
    assert collector.complete
    (progress,) = collector.due(1.0)
    assert (progress.iteration, progress.losses["matching_loss"]) == (5, 2)
    assert progress.queue["queue_size"] == 1
    # Three rounds of three iterations: one after the other, and the last training.
    assert loop.busy == Busy(matching_s=9 * 2.0, training_s=9 * 0.5 + 0.25, path_s=9 * 2.5 + 0.25)


def test_a_straggler_is_told_of_once(processes):
    loop, _ = make_loop(processes, 2, busy_s=(10.0, 30.0))
    while not loop.complete:
        loop.step(2)
    (told,) = loop.news()
    assert told.startswith("class actor 1 takes 3.0 times as long for a class as the others")
    assert list(loop.news()) == []


def test_who_hangs_is_named_and_ended(processes):
    hanging = NotingActor.remote()
    loop, _ = make_loop([processes[0], hanging, processes[2]], 2, hang_timeout_s=0.5)
    hanging.hang.remote()
    with pytest.raises(ActorLostError, match=r"class actor 1 finished nothing for"):
        while not loop.complete:
            loop.step(2)
