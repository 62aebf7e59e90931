"""Reserves what a run needs of a cluster, or says what is missing."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from idm_ray.errors import ResourceError
from idm_ray.layout import Layout

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
        needs = {"CPU": layout.cpus_per_actor, "GPU": layout.gpus_per_actor}
        actor = {name: amount for name, amount in needs.items() if amount}
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

    def release(self) -> None:
        """Give everything back; processes that still sit here are ended."""
        if self._group is not None:
            remove_placement_group(self._group)
            self._group = None


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
