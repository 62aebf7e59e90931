"""Room and queues for trials: what each reserves, and which of them share a queue."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray

from idm_ray.algorithm.numerics import Numerics
from idm_ray.arithmetic import choose_numerics, compiling_pays
from idm_ray.errors import ActorLostError
from idm_ray.layout import Layout, cut_groups, lay_out, share_of
from idm_ray.plan import Plan, copy_at
from idm_ray.recorded_queue import Counts
from idm_ray.runtime import actors
from idm_ray.runtime.connection import connect, fetch
from idm_ray.runtime.hosting import Host
from idm_ray.runtime.placement import Seat, make_sure_of
from idm_ray.runtime.pretraining import pretrained_set
from idm_ray.runtime.shared_queue import SharedQueue
from idm_ray.runtime.surroundings import look_everywhere, resources
from idm_ray.searches.job import Job


class TrialRooms:
    """Decides what each trial gets, and keeps the queues that several of them share.

    A context manager: at its end, the queues end.

    Args:
        jobs: of the trials; those that have a queue key share the queue of that key.

    Raises:
        ResourceError: the cluster has no room for one of the trials beside the shared queues.
        DataError: a node cannot see the data.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        own_cluster = connect()
        for data in {job.config.data: None for job in jobs}:
            look_everywhere(data)
        self._queues: dict[tuple[str, Numerics], Any] = {}
        layouts = {job.name: _lay_out(job) for job in jobs}
        num_queues = len({job.queue_key for job in jobs} - {None})
        # Queues that serve whoever asks next share what one process takes.
        self._queue_gpus = max(x.gpus_per_actor for x in layouts.values()) / max(1, num_queues)
        queues = [{"GPU": self._queue_gpus}] * num_queues if self._queue_gpus else []
        for job in {_needs(job, layouts[job.name]): job for job in jobs}.values():
            make_sure_of(
                queues + self._bundles(job, Host(layout=layouts[job.name])),
                wait_s=job.config.machine.wait_s,
                may_grow=not own_cluster,
            )
        self._hosts = {job.name: self._host(job, layouts[job.name]) for job in jobs}

    @property
    def hosts(self) -> Mapping[str, Host]:
        """What each trial is given, by the name of its job."""
        return self._hosts

    def bundles(self, job: Job) -> list[dict[str, float]]:
        """What a trial reserves."""
        return self._bundles(job, self._hosts[job.name])

    def counts(self) -> list[Counts]:
        """What each of the shared queues did; those that are lost have nothing to say."""
        calls = [queue.counts.remote() for queue in self._queues.values()]
        found = []
        for call in calls:
            with contextlib.suppress(ActorLostError):
                found.append(fetch(call))
        return found

    def __enter__(self) -> "TrialRooms":
        return self

    def __exit__(self, *exc: object) -> None:
        """End the queues."""
        for queue in self._queues.values():
            ray.kill(queue)

    def _bundles(self, job: Job, host: Host) -> list[dict[str, float]]:
        evaluates = job.config.evaluation.repeats and copy_at(job.config)
        return host.bundles + [host.evaluation_bundle] * bool(evaluates)

    def _host(self, job: Job, layout: Layout) -> Host:
        if job.queue_key is None:
            return Host(layout=layout)
        numerics = _numerics(job, layout)
        key = job.queue_key, numerics
        if key not in self._queues:
            self._queues[key] = _start_queue(job, numerics, self._queue_gpus)
        return Host(layout=layout, queue=self._queues[key], numerics=numerics)


def _lay_out(job: Job) -> Layout:
    """As the job would be alone, but that threads are left to other trials."""
    num_groups = len(cut_groups(job.info.num_classes, int(job.config.condense.classes_per_group)))
    machine, there = job.config.machine, resources()
    layout = lay_out(machine, num_groups=num_groups, **there)
    gpus = layout.gpus_per_actor
    if gpus and machine.gpus_per_actor == "auto":
        # Copies are evaluated while actors and queue stay where they are.
        gpus = share_of(there["gpus"], layout.actors + 1 + bool(copy_at(job.config)))
        layout = replace(layout, gpus_per_actor=gpus)
    if machine.threads == "auto":
        # As many cores as go with the GPUs; without any, one.
        share = gpus / there["gpus"] if there["gpus"] else 0
        threads = int(there["cpus"] * share)
        layout = replace(layout, threads=max(1, threads))
    return layout


def _needs(job: Job, layout: Layout) -> tuple[Any, ...]:
    return layout, bool(copy_at(job.config))


def _numerics(job: Job, layout: Layout) -> Numerics:
    """How a job computes wherever it sits: as it would on its own."""
    machine = job.config.machine
    compiling = compiling_pays(machine, job.pixels)
    looking = actors.inspect_place.options(num_cpus=0, num_gpus=layout.gpus_per_actor).remote(
        job.config, job.info, compiling
    )
    return choose_numerics(machine, [fetch(looking)], threads=layout.threads, pixels=job.pixels)


def _start_queue(job: Job, numerics: Numerics, gpus: float) -> Any:
    plan = Plan(config=job.config, info=job.info, numerics=numerics)
    seat = Seat({"num_cpus": 0, "num_gpus": gpus})
    found = {lesson.member: last for lesson, _, (last,) in pretrained_set(plan, [seat])}
    networks = [found[member] for member in sorted(found)]
    return SharedQueue.options(**seat.options).remote(plan, *networks)
