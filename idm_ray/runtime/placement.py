"""Reserves what a run needs of a cluster, or says what is missing."""

import logging
import time
from collections.abc import Iterator
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

from idm_ray import interruption
from idm_ray.errors import ResourceError
from idm_ray.layout import Layout

# How often to ask whether a lost seat has been replaced.
LOOK_EVERY_S = 0.5

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seat:
    """Options with which Ray starts one process of the run."""

    options: dict[str, Any]


class Reservation:
    """Room for the class actors and the queue, held together until `release`.

    Args:
        layout: of the run.
        wait_s: how long to wait for resources that exist but are taken, or may still come.
        may_grow: whether the cluster could get more nodes; if not, a lack is refused at once.

    Raises:
        ResourceError: the cluster cannot give what is asked; names wanted and available.
    """

    def __init__(self, layout: Layout, *, wait_s: float, may_grow: bool) -> None:
        actor = _needs(layout)
        # The queue takes no CPU of the cluster, so that a run fits on a single one. It takes its
        # own share of a GPU; without one it sits beside the first actor, where the data are.
        queue = {name: amount for name, amount in actor.items() if name == "GPU"}
        bundles = [actor] * layout.actors * bool(actor) + [queue] * bool(queue)
        self._seats = [(actor, n) for n in range(layout.actors)]
        self._seats.append((queue, layout.actors if queue else 0))
        self._group: PlacementGroup | None = None
        if not may_grow:
            _refuse_infeasible(bundles)
        if bundles:
            self._group = _reserve(bundles, wait_s)

    def seats(self) -> Iterator[Seat]:
        """Options for each class actor in turn, then for the queue."""
        for want, bundle in self._seats:
            options: dict[str, Any] = {
                "num_cpus": want.get("CPU", 0),
                "num_gpus": want.get("GPU", 0),
            }
            if self._group is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
                    self._group, placement_group_bundle_index=bundle
                )
            yield Seat(options)

    def is_whole(self, wait_s: float) -> bool:
        """Whether every seat exists, or does again within a time: nodes come and go."""
        deadline = time.monotonic() + wait_s
        while self._group is not None:
            if placement_group_table(self._group)["state"] == "CREATED":
                break
            if time.monotonic() > deadline:
                return False
            interruption.check()
            time.sleep(LOOK_EVERY_S)
        return True

    def release(self) -> None:
        """Give everything back; processes that still sit here are ended."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


def room(layout: Layout) -> int:
    """How many class actors beside the queue the nodes that are alive have room for.

    If nobody else has taken it; at most as many as the layout has, where actors need nothing.
    """
    actor = _needs(layout)
    if not actor:
        return layout.actors
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    seats = [
        min(int((node.get(name, 0) + 1e-6) / amount) for name, amount in actor.items())
        for node in nodes
    ]
    # The queue has a share of a GPU, but of no CPU.
    return sum(seats) - ("GPU" in actor)


def free_room(layout: Layout) -> bool:
    """Whether there is room for one class actor more."""
    free = ray.available_resources()
    return all(free.get(name, 0) + 1e-6 >= amount for name, amount in _needs(layout).items())


def _needs(layout: Layout) -> dict[str, float]:
    needs = {"CPU": layout.cpus_per_actor, "GPU": layout.gpus_per_actor}
    return {name: amount for name, amount in needs.items() if amount}


def _reserve(bundles: list[dict[str, float]], wait_s: float) -> PlacementGroup:
    group: PlacementGroup = placement_group(bundles, strategy="PACK")
    silence_s = min(wait_s, 5.0)
    if group.wait(timeout_seconds=silence_s):
        return group
    _LOGGER.warning("waiting for resources: %s", _lacking(bundles, "yet"))
    if not group.wait(timeout_seconds=wait_s - silence_s):
        remove_placement_group(group)
        raise _lacking(bundles, f"within {wait_s:g} s (--wait-s)")
    return group


def _refuse_infeasible(bundles: list[dict[str, float]]) -> None:
    """Refuse what not even an idle cluster could give, in all or to a single process."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name in ("CPU", "GPU"):
        total = sum(bundle.get(name, 0) for bundle in bundles)
        largest = max((bundle.get(name, 0) for bundle in bundles), default=0)
        has = [node.get(name, 0) for node in nodes]
        if total > sum(has) + 1e-6 or largest > max(has) + 1e-6:
            raise _lacking(bundles, "and it will not grow")


def _lacking(bundles: list[dict[str, float]], when: str) -> ResourceError:
    def amounts(of: dict[str, float]) -> str:
        return " and ".join(f"{of.get(name, 0):g} {name}" for name in ("CPU", "GPU"))

    wanted = {name: sum(bundle.get(name, 0) for bundle in bundles) for name in ("CPU", "GPU")}
    return ResourceError(
        f"the cluster cannot seat this run {when}: wanted {amounts(wanted)} in {len(bundles)} "
        f"parts of up to {amounts(max(bundles, key=lambda b: sum(b.values())))}; it has "
        f"{amounts(ray.cluster_resources())}, free are {amounts(ray.available_resources())}; use "
        "fewer --actors, or less in --cpus-per-actor or --gpus-per-actor"
    )
