"""Pretrained networks as tasks: one at a time at each seat of the run, before its actors start."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.plan import Lesson, Plan
from idm_ray.pretrained import PretrainReport
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch, wait
from idm_ray.runtime.placement import Seat


def pretrained_set(
    plan: Plan, seats: Sequence[Seat]
) -> Iterator[tuple[Lesson, tuple[PretrainReport, ...], tuple[Any, ...]]]:
    """Train the networks that a plan asks for, or find them kept.

    Args:
        plan: of the run.
        seats: of its processes.

    Yields:
        Each lesson when it is over, its reports, and references to the network at each look.
    """
    shared_plan = ray.put(plan)
    waiting, free = deque(plan.pretraining), list(seats)
    running: dict[Any, tuple[Lesson, tuple[Any, ...], Seat]] = {}
    try:
        while waiting or running:
            while waiting and free:
                seat, lesson = free.pop(0), waiting.popleft()
                task = actors.pretrain.options(num_returns=len(lesson.steps) + 1, **seat.options)
                *networks, reports = task.remote(shared_plan, lesson)
                running[reports] = lesson, tuple(networks), seat
            done = wait(list(running))
            for reports in done:
                lesson, networks, seat = running.pop(reports)
                free.append(seat)
                yield lesson, fetch(reports), networks
    finally:
        for reports in running:
            ray.cancel(reports, force=True)
