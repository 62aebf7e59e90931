"""What came of continual learning: its figures as numbers, CSV and JSON."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from idm_ray.continual.course import NetworkJob, Schedule
from idm_ray.continual.network import Score

_COLUMNS = ("method", "step", "num_classes", "mean", "std", "networks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """How good the networks of a method are after a step.

    Attributes:
        method: that made the memories.
        step: from 1.
        num_classes: that have come, and that they are tested on.
        accuracies: of all orders and repeats, fractions.
    """

    method: str
    step: int
    num_classes: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """A fraction."""
        return float(np.mean(self.accuracies))

    @property
    def std(self) -> float:
        """Of the population, over orders and repeats, a fraction."""
        return float(np.std(self.accuracies))


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What came of a course.

    Attributes:
        folder: of all files, without a password.
        title: what was learned.
        protocol: how networks were trained and tested: "network", "protocol", "epochs", "split".
        schedule: all networks.
        points: by method, then step.
        condensing_s: seconds that it took to make all memories, by method.
        training_s: seconds that it took to train all networks, one after the other.
        made: what is needed to make the same numbers again.
    """

    folder: str
    title: str
    protocol: Mapping[str, Any]
    schedule: Schedule
    points: tuple[Point, ...]
    condensing_s: Mapping[str, float]
    training_s: float
    made: Mapping[str, Any]

    def curve(self, method: str) -> tuple[Point, ...]:
        """The points of a method, by step."""
        return tuple(point for point in self.points if point.method == method)

    @property
    def behind(self) -> str:
        """What is behind each mean, in a line."""
        orders, repeats = self.schedule.course.orders, self.schedule.repeats
        return (
            f"{self.protocol['network']}, protocol {self.protocol['protocol']}, "
            f"{self.protocol['epochs']} epochs; mean ± std, {orders} order{'s' * (orders > 1)} x "
            f"{repeats} network{'s' * (repeats > 1)}"
        )


def points_of(schedule: Schedule, found: Mapping[NetworkJob, Score]) -> tuple[Point, ...]:
    """All points, of accuracies that are there."""
    return tuple(
        Point(
            method=method,
            step=step,
            num_classes=num_classes,
            accuracies=tuple(found[job].accuracy for job in schedule.jobs_of(method, step)),
        )
        for method in schedule.course.methods
        for step, num_classes in enumerate(schedule.seen, 1)
    )


def title_of(schedule: Schedule, source: str, ipc: int) -> str:
    """What is learned, in a line."""
    sizes = sorted({len(step) for step in schedule.steps(schedule.seed)})
    steps = schedule.course.steps
    return (
        f"{source}: {steps} step{'s' * (steps > 1)} of {' or '.join(map(str, sizes))} classes, "
        f"{ipc} image{'s' * (ipc > 1)} per class in memory"
    )


def as_csv(points: Sequence[Point]) -> str:
    """A line for each point; accuracies are fractions."""
    file = io.StringIO(newline="")
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for point in points:
        networks = len(point.accuracies)
        numbers = (point.step, point.num_classes, point.mean, point.std, networks)
        lines.writerow((point.method, *numbers))
    return file.getvalue()


def as_json(learned: Learned) -> dict[str, Any]:
    """The content of results.json."""
    schedule = learned.schedule
    return {
        "title": learned.title,
        "steps": schedule.course.steps,
        "orders": list(schedule.orders),
        "networks_per_step": schedule.repeats,
        **learned.protocol,
        "curves": {
            method: [
                {
                    "step": point.step,
                    "num_classes": point.num_classes,
                    "mean": point.mean,
                    "std": point.std,
                    "accuracies": list(point.accuracies),
                }
                for point in learned.curve(method)
            ]
            for method in schedule.course.methods
        },
        "class_orders": {
            str(order): [list(step) for step in schedule.steps(order)] for order in schedule.orders
        },
        "condensing_seconds": dict(learned.condensing_s),
        "training_seconds": learned.training_s,
        "made": dict(learned.made),
    }
