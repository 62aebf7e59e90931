"""Runs a config on Ray: decides who does what next, and moves references, never tensors.

The queue runs ahead of the class actors by a bounded window; every actor goes through the sequence
of snapshots at its own pace. Nothing here touches the numbers: they are those of `idm_ray.local`.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import (
    Layout,
    choose_numerics,
    compiling_notes,
    compiling_pays,
    crew_of,
    cut_groups,
    lay_out,
)
from idm_ray.machine import Capabilities, peak_memory_bytes
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.progress import Busy, Collector, Evaluated, Progress
from idm_ray.results.card import Card
from idm_ray.runtime import actors
from idm_ray.runtime.connection import connect, fetch
from idm_ray.runtime.evaluations import Evaluations
from idm_ray.runtime.loop import Loop
from idm_ray.runtime.placement import Reservation, Seat
from idm_ray.runtime.pretraining import pretrained_set
from idm_ray.runtime.snapshots import Snapshots
from idm_ray.workers import Images


class RayRunner:
    """Runs a settled config on a Ray cluster.

    Args:
        config: settled.
        info: of the data.
        marks: iterations after which a copy of the images is evaluated, with the jobs for each.
        pixels: through networks, by which compiling is decided.

    Raises:
        ResourceError: the cluster cannot give what the config asks for.
        DataError: a node cannot see the data.
    """

    def __init__(
        self,
        config: RunConfig,
        info: DatasetInfo,
        marks: dict[int, tuple[EvaluationJob, ...]],
        *,
        pixels: float,
    ) -> None:
        own_cluster = connect()
        groups = cut_groups(info.num_classes, int(config.condense.classes_per_group))
        there = _resources()
        layout = lay_out(config.machine, num_groups=len(groups), **there)
        self._layout = layout
        self._reservation = Reservation(
            layout, wait_s=config.machine.wait_s, may_grow=not own_cluster
        )
        self._seats = list(self._reservation.seats())
        try:
            compiling = compiling_pays(config.machine, pixels)
            found = _inspect(self._seats, config, info, compiling=compiling)
            numerics = choose_numerics(config.machine, found, threads=layout.threads, pixels=pixels)
        except BaseException:
            self._reservation.release()
            raise
        self.plan = Plan(config=config, info=info, numerics=numerics)
        self.crew = crew_of(layout, groups, cpus=there["cpus"], gpus=there["gpus"])
        self.where = _describe(layout, found, own_cluster)
        self.notes = (
            *layout.notes,
            self.where,
            *compiling_notes(config.machine, found, pixels=pixels),
        )
        self.seconds = 0.0
        self.busy = Busy()
        self.peak_memory_bytes = 0
        self.processes: tuple[Any, ...] = ()
        """Handles of the class actors and, last, of the queue, while they exist."""
        self._marks = marks
        self._copies: dict[int, list[Any]] = {}
        self._evaluations = Evaluations(self.plan, layout)
        self._images: Any = None
        self._pretrained: dict[int, Any] = {}

    def pretrain(self) -> Iterator[PretrainReport]:
        """Train the networks that those of the queue are copies of, if there are to be any."""
        for report, network in pretrained_set(self.plan, self._seats):
            self._pretrained[report.member] = network
            yield report

    def start(self) -> tuple[str, ...]:
        """Start the class actors and the queue; returns when they are ready, and where they are.

        `pretrain` comes first.
        """
        *class_seats, queue_seat = self._seats
        # One copy of the plan in the object store for all processes.
        plan = ray.put(self.plan)
        networks = [self._pretrained[member] for member in sorted(self._pretrained)]
        queue = actors.QueueActor.options(**queue_seat.options).remote()
        class_actors = [actors.ClassActor.options(**s.options).remote() for s in class_seats]
        self.processes = (*class_actors, queue)
        started = [
            *(
                actor.start.remote(plan, groups)
                for actor, groups in zip(class_actors, self._layout.assignment, strict=True)
            ),
            queue.start.remote(plan, *networks),
        ]
        places = fetch(started)
        self._pretrained = {}  # the queue has them
        return (_describe_places(places),)

    def condense(self) -> Iterator[Progress | Evaluated]:
        """Run all iterations; `start` comes first."""
        began = time.perf_counter()
        yield from self._iterate()
        parts = [actor.images.remote() for actor in self.processes[:-1]]
        self._images = actors.gather_images.options(num_cpus=0).remote(*parts)
        ray.wait([self._images], fetch_local=False)
        self.seconds = time.perf_counter() - began
        peaks = fetch([process.peak_memory_bytes.remote() for process in self.processes])
        self.peak_memory_bytes = sum(peaks) + peak_memory_bytes()
        # Evaluations may have waited for the resources that are given back here.
        self._release()
        yield from self._evaluations.finished(wait=True)

    def adopt(self, images: Images) -> None:
        """Take finished images instead of condensing some."""
        self._reservation.release()
        self._images = ray.put(images)

    def evaluate(self, jobs: Sequence[EvaluationJob]) -> Iterator[Evaluated]:
        """Train and test networks, as many at a time as there is room for."""
        self._evaluations.submit(jobs, self._images)
        yield from self._evaluations.finished(wait=True)

    def write(self, folder: Path, card: Card) -> None:
        """Write the condensed set and its gallery from a task beside this process."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        task = actors.write_results.options(num_cpus=0, scheduling_strategy=here)
        fetch(task.remote(folder.absolute(), self._images, card))

    def close(self) -> None:
        """End everything of this run that still runs; again is harmless."""
        self._evaluations.cancel()
        self._release()

    def _release(self) -> None:
        """End the actors and give back what they held."""
        for process in self.processes:
            ray.kill(process)
        self.processes = ()
        self._reservation.release()

    def _iterate(self) -> Iterator[Progress | Evaluated]:
        iterations = self.plan.config.condense.iterations
        handles = self.processes[:-1]
        collector = Collector(
            iterations=iterations, num_groups=len(self.plan.groups), num_workers=len(handles)
        )
        loop = Loop(
            handles,
            Snapshots(self.processes[-1], iterations, self._marks),
            collector,
            at_block_end=self._copy_at,
        )
        reported = time.perf_counter()
        while not loop.complete:
            loop.step()
            for progress in collector.due(time.perf_counter() - reported):
                reported = time.perf_counter()
                yield progress
            yield from self._evaluations.finished(wait=False)
        self.busy = loop.busy

    def _copy_at(self, iteration: int, actor: Any) -> None:
        """At a mark, have an actor copy its images; the last one's copy starts the evaluation."""
        if iteration not in self._marks:
            return
        copies = self._copies.setdefault(iteration, [])
        copies.append(actor.images.remote())
        if len(copies) == len(self.processes) - 1:
            images = actors.gather_images.options(num_cpus=0).remote(*self._copies.pop(iteration))
            self._evaluations.submit(self._marks[iteration], images)


def _inspect(
    seats: Sequence[Seat], config: RunConfig, info: DatasetInfo, *, compiling: bool
) -> list[Capabilities]:
    """Look around at every seat."""
    looks = [
        actors.inspect_place.options(**seat.options).remote(config, info, compiling)
        for seat in seats
    ]
    # All of them end before the first error is raised: it gives their seats away.
    ray.wait(looks, num_returns=len(looks))
    return list(fetch(looks))


def _describe(layout: Layout, found: Sequence[Capabilities], own_cluster: bool) -> str:
    each = [f"{layout.threads} thread{'s' * (layout.threads > 1)} each"]
    if layout.gpus_per_actor:
        each.append(f"{layout.gpus_per_actor:g} GPU each")
    where = "this machine" if own_cluster else "the cluster"
    names = ", ".join(sorted({place.name for place in found}))
    actors_ = f"{layout.actors} class actor{'s' * (layout.actors > 1)}"
    return f"Ray on {where}: {actors_} and the model queue, {', '.join(each)}, on {names}"


def _describe_places(places: Sequence[actors.Place]) -> str:
    """Where the class actors and, last, the queue run."""
    names = [*(f"class actor {n}" for n in range(len(places) - 1)), "model queue"]
    nodes = list(dict.fromkeys(place.node for place in places))
    return "; ".join(
        f"{name}: node {nodes.index(place.node)}, pid {place.pid}"
        + (f", GPU {', '.join(map(str, place.gpus))}" if place.gpus else "")
        for name, place in zip(names, places, strict=True)
    )


def _resources() -> dict[str, float]:
    """What the cluster has: in all, and in its smallest node that computes."""
    total = ray.cluster_resources()
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return {
        "cpus": total.get("CPU", 0),
        "gpus": total.get("GPU", 0),
        "cpus_of_a_node": min((cpus for cpus in nodes if cpus), default=1),
    }
