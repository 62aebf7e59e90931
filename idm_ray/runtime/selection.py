"""Choosing real images as tasks: a group of classes at a time at each seat of the run."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.plan import Plan
from idm_ray.progress import Advanced
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.placement import Seat


class Selection:
    """The groups of a plan, shared out among seats.

    Args:
        plan: of the run; its method chooses real images.
        seats: of the run's processes.
        networks: references to what is looked at.
    """

    def __init__(self, plan: Plan, seats: Sequence[Seat], networks: Sequence[Any]) -> None:
        self._plan, self._seats, self._networks = plan, seats, networks
        self._images: dict[int, Any] = {}
        self._peaks: dict[int, int] = {}

    @property
    def images(self) -> list[Any]:
        """References to the chosen images, group by group."""
        return [self._images[group] for group in sorted(self._images)]

    @property
    def peak_memory_bytes(self) -> int:
        """Of the seats together, each at its largest."""
        return sum(self._peaks.values())

    def run(self) -> Iterator[Advanced]:
        """Choose for all groups; Ray tries those again whose process is lost."""
        plan = ray.put(self._plan)
        waiting, free = deque(range(len(self._plan.groups))), list(enumerate(self._seats))
        running: dict[Any, tuple[int, Any, tuple[int, Seat]]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    place, group = free.pop(0), waiting.popleft()
                    task = actors.select.options(**place[1].options)
                    images, peak = task.remote(plan, group, *self._networks)
                    running[peak] = group, images, place
                for peak in wait(list(running)):
                    group, images, place = running.pop(peak)
                    free.append(place)
                    self._peaks[place[0]] = max(self._peaks.get(place[0], 0), fetch(peak))
                    self._images[group] = images
                    yield Advanced(len(self._images), f"{len(self._plan.groups[group])} classes")
        finally:
            for peak in running:
                ray.cancel(peak, force=True)
