"""Shells around the plain classes of `idm_ray.workers`: they add where they are, nothing else."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from idm_ray import examining, real_images, selecting, workers
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.state import Pretrained
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.machine import Capabilities, look_around, peak_memory_bytes
from idm_ray.plan import Lesson, Plan
from idm_ray.results import outcome
from idm_ray.work_log import WorkLog


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a process runs: node, process id, and the GPUs that Ray assigned to it."""

    node: str
    pid: int
    gpus: tuple[int, ...]
    log: str
    """File of what it writes to standard error; empty where that is not known."""


class Located:
    """Knows where it is."""

    def place(self) -> Place:
        """Where this actor runs."""
        context = ray.get_runtime_context()
        return Place(
            node=context.get_node_id(),
            pid=os.getpid(),
            gpus=tuple(int(gpu) for gpu in ray.get_gpu_ids()),
            log=_standard_error(),
        )


class _Placed(Located):
    """Is built by its first call: Ray tells why a call failed, but not why a constructor did.

    Args:
        run: what the run is called.
        name: what this actor is called.
    """

    def __init__(self, run: str, name: str) -> None:
        self._close: Callable[[], None] = lambda: None
        self._log = WorkLog(run, name)

    def start(self, *arguments: Any, **keywords: Any) -> None:
        """Build the worker; once more, build it anew."""
        self._close()
        super().__init__(*arguments, **keywords)
        self._close = self.__getattribute__("close")
        self._log.say("began", self.__getattribute__("iteration"))


class _ClassActor(_Placed, workers.ClassWorker):
    """Owns the synthetic images of whole groups of classes."""

    def run(
        self, first_iteration: int, sequence: Sequence[Sequence[Snapshot]]
    ) -> workers.WorkerReport:
        report = super().run(first_iteration, sequence)
        self._log.worked(self.iteration, report.busy_s)
        return report

    def run_round(
        self, iteration: int, round_: int, snapshots: Sequence[Snapshot]
    ) -> workers.WorkerReport:
        report = super().run_round(iteration, round_, snapshots)
        self._log.worked(self.iteration, report.busy_s)
        return report


class _QueueActor(_Placed, workers.QueueWorker):
    """Owns the model queue, or the networks of each iteration."""

    def serve(
        self, first: int, last: int, *, needed: int
    ) -> tuple[Sequence[Sequence[Snapshot]], workers.QueueWorkerReport]:
        sequence, report = super().serve(first, last, needed=needed)
        self._log.worked(last, report.busy_s)
        return sequence, report

    def serve_round(
        self, iteration: int, round_: int, *parts: Mapping[int, workers.Images]
    ) -> tuple[tuple[Snapshot, ...], workers.QueueWorkerReport]:
        snapshots, report = super().serve_round(iteration, round_, *parts)
        self._log.worked(iteration, report.busy_s)
        return snapshots, report


def _gather_images(*parts: dict[int, workers.Images]) -> tuple[workers.Images, None]:
    """All synthetic images."""
    return workers.gather_images(*parts), None


def _hold(thing: Any) -> tuple[Any, None]:
    """The same thing, in the object store of the node that this runs on."""
    return thing, None


def _standard_error() -> str:
    """Where Ray has this process write what goes wrong."""
    try:
        return os.readlink("/proc/self/fd/2")
    except OSError:  # not on Linux
        return ""


def _inspect_place(config: RunConfig, info: DatasetInfo, compiling: bool) -> Capabilities:
    """What a process at this place can compute with; makes its node decode the data if need be."""
    real_images.check_data(config, info)
    assigned = bool(ray.get_gpu_ids())
    return look_around(config.machine.device, gpu_assigned=assigned, compiling=compiling)


def _pretrain(plan: Plan, lesson: Lesson) -> tuple[Any, ...]:
    """A network at each of its looks, and what is told of them."""
    networks, reports = workers.pretrain(plan, lesson)
    return (*networks, reports)


def _select(plan: Plan, group: int, *networks: Pretrained) -> tuple[dict[int, workers.Images], int]:
    """The real images that are chosen for a group of classes, and the memory that it took."""
    classes = plan.groups[group]
    images = selecting.select(plan, classes, networks)
    by_class = images.reshape(len(classes), -1, *images.shape[1:])
    return {group: by_class}, peak_memory_bytes()


# Calls of this group are answered aside of what the actor does, which may take long.
ASIDE = "aside"

# Ray's own types of remote classes and functions lack options; the plain ones above are checked.
_remote: Any = ray.remote
ClassActor: Any = _remote(concurrency_groups={ASIDE: 1})(_ClassActor)
QueueActor: Any = _remote(concurrency_groups={ASIDE: 1})(_QueueActor)
inspect_place: Any = _remote(_inspect_place)
look_for_data: Any = _remote(real_images.look_for_data)
evaluate: Any = _remote(max_retries=0)(examining.evaluate)
pretrain: Any = _remote(_pretrain)
select: Any = _remote(num_returns=2)(_select)
# The second result is for who only wants to know when the first is there.
gather_images: Any = _remote(num_returns=2)(_gather_images)
hold: Any = _remote(num_returns=2)(_hold)
write_results: Any = _remote(outcome.write_results)
write_selected: Any = _remote(outcome.write_selected)
