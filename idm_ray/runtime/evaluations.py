"""Evaluation as tasks: networks are trained and tested wherever there is room."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from idm_ray.errors import ActorLostError
from idm_ray.layout import Layout
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.progress import Evaluated
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait


@dataclass(frozen=True, slots=True)
class LostEvaluation:
    """A network that is to be trained again.

    Attributes:
        job: of the network.
        images: the reference that it was given.
        loss: of the process; as InputLostError, of the images.
    """

    job: EvaluationJob
    images: Any
    loss: ActorLostError


def task_resources(layout: Layout) -> dict[str, float]:
    """What Ray reserves for a task that trains a network: CPUs for its threads, share of a GPU."""
    # As the nodes are now: what fits none of them would wait for ever.
    largest_node = max(
        float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]
    )
    return {"num_cpus": min(layout.threads, largest_node), "num_gpus": layout.gpus_per_actor}


class Evaluations:
    """Networks under training, and which job each belongs to.

    Args:
        plan: of the run.
        layout: each task takes as many CPUs as it has threads, and an actor's share of a GPU.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        self._layout = layout
        self._plan = ray.put(plan)
        self._jobs: dict[Any, tuple[EvaluationJob, Any]] = {}

    def submit(self, jobs: Sequence[EvaluationJob], images: Any) -> None:
        """Train one network for each job, on images given by reference."""
        task = actors.evaluate.options(**task_resources(self._layout))
        for job in jobs:
            self._jobs[task.remote(self._plan, job, images)] = job, images

    @property
    def under_way(self) -> Collection[EvaluationJob]:
        """What is being evaluated."""
        return {job for job, _ in self._jobs.values()}

    def finished(self, *, wait_for: bool) -> Iterator[Evaluated | LostEvaluation]:
        """Results that are there, or all that are still to come, and those that were lost."""
        while self._jobs:
            done = wait(list(self._jobs), timeout_s=None if wait_for else 0)
            if not done:
                return
            for task in done:
                job, images = self._jobs.pop(task)
                try:
                    yield Evaluated(job=job, accuracy=fetch(task))
                except ActorLostError as loss:
                    yield LostEvaluation(job, images, loss)

    def cancel(self) -> None:
        """Stop what is under way; nobody waits for it any more."""
        for task in self._jobs:
            ray.cancel(task, force=True)
        self._jobs = {}
