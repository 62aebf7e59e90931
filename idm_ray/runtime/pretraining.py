"""Pretrained networks as tasks: one at a time at each seat of the run, before its actors start."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.plan import Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.placement import Seat


def pretrained_set(plan: Plan, seats: Sequence[Seat]) -> Iterator[tuple[PretrainReport, Any]]:
    """Train the networks of the set, or find them kept.

    Args:
        plan: of the run.
        seats: of its processes.

    Yields:
        The report of each network, as they are ready, and a reference to the network.
    """
    shared_plan = ray.put(plan)
    waiting, free = deque(range(plan.config.queue.pretrained)), list(seats)
    running: dict[Any, tuple[Any, Seat]] = {}
    try:
        while waiting or running:
            while waiting and free:
                seat = free.pop(0)
                task = actors.pretrain.options(num_returns=2, **seat.options)
                network, report = task.remote(shared_plan, waiting.popleft())
                running[report] = network, seat
            done = wait(list(running))
            for report in done:
                network, seat = running.pop(report)
                free.append(seat)
                yield fetch(report), network
    finally:
        for report in running:
            ray.cancel(report, force=True)
