"""Evaluation as tasks: networks are trained and tested wherever there is room."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.layout import Layout
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.progress import Evaluated
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch


class Evaluations:
    """Networks under training, and which job each belongs to.

    Args:
        plan: of the run.
        layout: each task takes as many CPUs as it has threads, and an actor's share of a GPU.
    """

    def __init__(self, plan: Plan, layout: Layout) -> None:
        largest_node = max(
            float(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]
        )
        self._task = actors.evaluate.options(
            num_cpus=min(layout.threads, largest_node), num_gpus=layout.gpus_per_actor
        )
        self._plan = ray.put(plan)
        self._jobs: dict[Any, EvaluationJob] = {}

    def submit(self, jobs: Sequence[EvaluationJob], images: Any) -> None:
        """Train one network for each job, on images given by reference."""
        self._jobs |= {self._task.remote(self._plan, job, images): job for job in jobs}

    def finished(self, *, wait: bool) -> Iterator[Evaluated]:
        """Results that are there, or all that are still to come."""
        while self._jobs:
            done, _ = ray.wait(list(self._jobs), timeout=None if wait else 0)
            if not done:
                return
            yield Evaluated(job=self._jobs.pop(done[0]), accuracy=fetch(done[0]))

    def cancel(self) -> None:
        """Stop what is under way; nobody waits for it any more."""
        for task in self._jobs:
            ray.cancel(task, force=True)
        self._jobs = {}
