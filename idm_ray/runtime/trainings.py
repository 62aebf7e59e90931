"""Networks of any kind as tasks: trained wherever there is room, and once more if they are lost."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import ActorLostError
from idm_ray.plan import Plan
from idm_ray.progress import Announcement
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.evaluations import task_resources
from idm_ray.runtime.failures import Failures
from idm_ray.runtime.seating import seat

Job = TypeVar("Job")
Result = TypeVar("Result")


class Trainings:
    """Calls a function for each of many networks.

    Args:
        function: takes the plan, a job, and what the jobs of its group share.
        config: settled.
        info: of the data.
        pixels: through networks, by which compiling is decided.

    Raises:
        ResourceError: the cluster cannot give what the config asks for.
        DataError: a node cannot see the data.
    """

    def __init__(
        self,
        function: Callable[[Plan, Any, Any], Any],
        config: RunConfig,
        info: DatasetInfo,
        *,
        pixels: float,
    ) -> None:
        # The seats of a run are where its networks could be trained, but nobody condenses here.
        seated = seat(config, info, pixels=pixels)
        seated.team.release()
        self.plan = Plan(config=config, info=info, numerics=seated.numerics)
        self.notes, self.processors = seated.notes, seated.processors
        self._layout, self._at_once = seated.team.layout, seated.crew.evaluations
        self._failures = Failures(config.machine.max_failures)
        self._plan = ray.put(self.plan)
        remote: Any = ray.remote
        self._task = remote(max_retries=0)(function)
        self._under_way: dict[Any, tuple[Any, Any]] = {}

    def results(
        self, groups: Iterable[tuple[Any, Sequence[Job]]]
    ) -> Iterator[Announcement | tuple[Job, Any]]:
        """Train all networks.

        Args:
            groups: what some jobs share, and these; one is asked for when there is room for it.

        Returns:
            Each job with its result, in the order of their ends, and what was lost on the way.

        Raises:
            ActorLostError: more processes were lost than may be.
        """
        for shared, jobs in groups:
            reference = ray.put(shared)
            for job in jobs:
                self._submit(job, reference)
            yield from self._finished(leave=self._at_once)
        yield from self._finished(leave=0)

    def close(self) -> None:
        """Stop what is under way; nobody waits for it any more."""
        for task in self._under_way:
            ray.cancel(task, force=True)
        self._under_way = {}

    def _submit(self, job: Any, shared: Any) -> None:
        task = self._task.options(**task_resources(self._layout))
        self._under_way[task.remote(self._plan, job, shared)] = job, shared

    def _finished(self, *, leave: int) -> Iterator[Announcement | tuple[Any, Any]]:
        """What is finished, until no more than so many are under way."""
        while len(self._under_way) > leave:
            for task in wait(list(self._under_way)):
                job, shared = self._under_way.pop(task)
                try:
                    result = fetch(task)
                except ActorLostError as loss:
                    yield self._failures.count([f"network ({job})"], loss)
                    self._submit(job, shared)
                else:
                    yield job, result
