"""What a cluster has, and what the processes of a run can compute with there."""

from collections.abc import Iterator, Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from idm_ray.config import DataConfig, RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import Layout
from idm_ray.machine import Capabilities
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.placement import Seat


def inspect(
    seats: Sequence[Seat], config: RunConfig, info: DatasetInfo, *, compiling: bool
) -> list[Capabilities]:
    """Look around at every seat.

    Raises:
        DataError: the data cannot be seen from one, or are others there.
    """
    looks = [
        actors.inspect_place.options(**seat.options).remote(config, info, compiling)
        for seat in seats
    ]
    # All of them end before the first error is raised: it gives their seats away.
    wait(looks, num_returns=len(looks))
    return list(fetch(looks))


def look_everywhere(data: DataConfig) -> None:
    """Make sure that every node sees the data: evaluations may come to run on any.

    Raises:
        DataError: one cannot; names it.
    """
    fetch(
        [
            actors.look_for_data.options(num_cpus=0, scheduling_strategy=there).remote(data)
            for there in _other_nodes()
        ]
    )


def _other_nodes() -> Iterator[NodeAffinitySchedulingStrategy]:
    """The nodes that compute, but for that of the driver."""
    here = ray.get_runtime_context().get_node_id()
    for node in ray.nodes():
        computes = node["Alive"] and any(node["Resources"].get(name) for name in ("CPU", "GPU"))
        if computes and node["NodeID"] != here:
            # Soft: a node that goes meanwhile is nobody's fault.
            yield NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)


def describe(layout: Layout, found: Sequence[Capabilities], own_cluster: bool) -> str:
    """Which processes on what hardware, in one line."""
    each = [f"{layout.threads} thread{'s' * (layout.threads > 1)} each"]
    if layout.gpus_per_actor:
        each.append(f"{layout.gpus_per_actor:g} GPU each")
    where = "this machine" if own_cluster else "the cluster"
    names = ", ".join(sorted({place.name for place in found}))
    actors_ = f"{layout.actors} class actor{'s' * (layout.actors > 1)}"
    return f"Ray on {where}: {actors_} and the model queue, {', '.join(each)}, on {names}"


def resources() -> dict[str, float]:
    """What the cluster has: in all, and in its smallest node that computes."""
    total = ray.cluster_resources()
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    return {
        "cpus": total.get("CPU", 0),
        "gpus": total.get("GPU", 0),
        "cpus_of_a_node": min((cpus for cpus in nodes if cpus), default=1),
    }
