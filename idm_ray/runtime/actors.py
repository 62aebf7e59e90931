"""Shells around the plain classes of `idm_ray.workers`: they add where they are, nothing else."""

import os
from dataclasses import dataclass
from typing import Any

import ray

from idm_ray import workers
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.machine import Capabilities, look_around
from idm_ray.real_images import check_data
from idm_ray.results import outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a process runs: node, process id, and the GPUs that Ray assigned to it."""

    node: str
    pid: int
    gpus: tuple[int, ...]


class _Placed:
    """Is built by its first call: Ray tells why a call failed, but not why a constructor did."""

    def __init__(self) -> None:
        """Nothing yet."""

    def start(self, *arguments: Any) -> Place:
        """Build the worker; returns where it runs."""
        super().__init__(*arguments)
        return self.place()

    def place(self) -> Place:
        """Where this actor runs."""
        context = ray.get_runtime_context()
        return Place(
            node=context.get_node_id(),
            pid=os.getpid(),
            gpus=tuple(int(gpu) for gpu in ray.get_gpu_ids()),
        )


class _ClassActor(_Placed, workers.ClassWorker):
    """Owns the synthetic images of whole groups of classes."""


class _QueueActor(_Placed, workers.QueueWorker):
    """Owns the model queue."""


def _inspect_place(config: RunConfig, info: DatasetInfo, compiling: bool) -> Capabilities:
    """What a process at this place can compute with; makes its node decode the data if need be."""
    check_data(config, info)
    assigned = bool(ray.get_gpu_ids())
    return look_around(config.machine.device, gpu_assigned=assigned, compiling=compiling)


# Ray's own types of remote classes and functions lack `options`; the plain ones above are checked.
ClassActor: Any = ray.remote(_ClassActor)
QueueActor: Any = ray.remote(_QueueActor)
inspect_place: Any = ray.remote(_inspect_place)
evaluate: Any = ray.remote(workers.evaluate)
pretrain: Any = ray.remote(workers.pretrain)
gather_images: Any = ray.remote(workers.gather_images)
write_results: Any = ray.remote(outcome.write_results)
