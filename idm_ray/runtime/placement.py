"""Reserves what a run needs of a cluster, or says what is missing."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from idm_ray.errors import ResourceError
from idm_ray.layout import Layout

# Seats that there is room for are there within so many seconds.
EXTEND_WITHIN_S = 2.0

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """Options with which Ray starts one process of the run."""

    options: dict[str, Any]


class Reservation:
    """Room for the class actors and the queue, held together until `release`.

    Args:
        layout: of the run.
        placement: pack or spread, as `MachineConfig` says.
        wait_s: how long to wait for resources that exist but are taken, or may still come.
        may_grow: whether the cluster could get more nodes; if not, a lack is refused at once.

    Raises:
        ResourceError: the cluster cannot give what is asked; names wanted and available.
    """

    def __init__(self, layout: Layout, *, placement: str, wait_s: float, may_grow: bool) -> None:
        actor = needs_of(layout)
        # The queue takes no CPU of the cluster, so that a run fits on a single one. It takes its
        # own share of a GPU; without one it sits beside the first actor, where the data are.
        queue = {name: amount for name, amount in actor.items() if name == "GPU"}
        bundles = [actor] * layout.actors * bool(actor) + [queue] * bool(queue)
        self._groups: list[PlacementGroup] = []
        if not may_grow:
            _refuse_infeasible(bundles)
        if bundles:
            self._groups.append(_reserve(bundles, placement, wait_s))
        group = self._groups[0] if bundles else None
        self._actor_seats = [seat_in(actor, group, n) for n in range(layout.actors)]
        self._queue_seat = seat_in(queue, group, layout.actors if queue else 0)
        self._needs = actor

    @property
    def seats(self) -> list[Seat]:
        """Of each class actor in turn, then of the queue."""
        return [*self._actor_seats, self._queue_seat]

    @property
    def is_whole(self) -> bool:
        """Whether every seat exists: a node may be gone, and its seats may find another."""
        return all(placement_group_table(g)["state"] == "CREATED" for g in self._groups)

    def extend(self, most: int) -> int:
        """Add seats of class actors, as far as there is room for them now.

        Returns:
            How many there are more.
        """
        asked = [placement_group([self._needs]) for _ in range(most)] if self._needs else []
        deadline = time.monotonic() + EXTEND_WITHIN_S
        for group in asked:
            if group.wait(timeout_seconds=max(0.0, deadline - time.monotonic())):
                self._groups.append(group)
                self._actor_seats.append(seat_in(self._needs, group, 0))
            else:
                remove_placement_group(group)
        return sum(group in self._groups for group in asked)

    def release(self) -> None:
        """Give everything back; processes that still sit here are ended."""
        for group in self._groups:
            remove_placement_group(group)
        self._groups = []


def seat_in(needs: dict[str, float], group: PlacementGroup | None, bundle: int) -> Seat:
    """A seat that takes so much of a bundle of a group; anywhere, if there is no group."""
    options: dict[str, Any] = {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0)}
    if group is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            group, placement_group_bundle_index=bundle
        )
    return Seat(options)


def room(layout: Layout) -> int:
    """How many class actors beside the queue the nodes that are alive have room for.

    If nobody else has taken it; at most as many as the layout has, where actors need nothing.
    """
    actor = needs_of(layout)
    if not actor:
        return layout.actors
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    seats = [
        min(int((node.get(name, 0) + 1e-6) / amount) for name, amount in actor.items())
        for node in nodes
    ]
    # The queue has a share of a GPU, but of no CPU.
    return sum(seats) - ("GPU" in actor)


def may_have_room(layout: Layout) -> bool:
    """Whether there could be room for one class actor more: enough is free, if only in parts."""
    free, needs = ray.available_resources(), needs_of(layout)
    return bool(needs) and all(free.get(name, 0) + 1e-6 >= needs[name] for name in needs)


def needs_of(layout: Layout) -> dict[str, float]:
    """What a class actor takes, without what it takes none of."""
    needs = {"CPU": layout.cpus_per_actor, "GPU": layout.gpus_per_actor}
    return {name: amount for name, amount in needs.items() if amount}


def _reserve(bundles: list[dict[str, float]], placement: str, wait_s: float) -> PlacementGroup:
    group: PlacementGroup = placement_group(bundles, strategy=placement.upper())
    silence_s = min(wait_s, 5.0)
    if group.wait(timeout_seconds=silence_s):
        return group
    _LOGGER.warning("waiting for resources: %s", _lacking(bundles, "yet"))
    if not group.wait(timeout_seconds=wait_s - silence_s):
        remove_placement_group(group)
        raise _lacking(bundles, f"within {wait_s:g} s (--wait-s)")
    return group


def make_sure_of(bundles: list[dict[str, float]], *, wait_s: float, may_grow: bool) -> None:
    """Make sure that the cluster could give all of this at once, and give it back.

    Args:
        bundles: each on one node.
        wait_s: how long to wait for it.
        may_grow: whether the cluster could get more nodes; if not, a lack is refused at once.

    Raises:
        ResourceError: it cannot; names wanted and available.
    """
    if not may_grow:
        _refuse_infeasible(bundles)
    remove_placement_group(_reserve(bundles, "pack", wait_s))


def _refuse_infeasible(bundles: Sequence[dict[str, float]]) -> None:
    """Refuse what not even an idle cluster could give, in all or to a single process."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name in ("CPU", "GPU"):
        total = sum(bundle.get(name, 0) for bundle in bundles)
        largest = max((bundle.get(name, 0) for bundle in bundles), default=0)
        has = [node.get(name, 0) for node in nodes]
        if total > sum(has) + 1e-6 or largest > max(has) + 1e-6:
            raise _lacking(bundles, "and it will not grow")


def _lacking(bundles: Sequence[dict[str, float]], when: str) -> ResourceError:
    def amounts(of: dict[str, float]) -> str:
        return " and ".join(f"{of.get(name, 0):g} {name}" for name in ("CPU", "GPU"))

    wanted = {name: sum(bundle.get(name, 0) for bundle in bundles) for name in ("CPU", "GPU")}
    return ResourceError(
        f"the cluster cannot seat this run {when}: wanted {amounts(wanted)} in {len(bundles)} "
        f"parts of up to {amounts(max(bundles, key=lambda b: sum(b.values())))}; it has "
        f"{amounts(ray.cluster_resources())}, free are {amounts(ray.available_resources())}; use "
        "fewer --actors, or less in --cpus-per-actor or --gpus-per-actor"
    )
