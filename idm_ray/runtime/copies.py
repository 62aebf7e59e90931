"""Copies of the images that class actors make on the way: evaluated, and forgotten in time."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from idm_ray.plan import EvaluationJob
from idm_ray.runtime import actors
from idm_ray.runtime.evaluations import Evaluations
from idm_ray.runtime.keeper import beside_the_driver
from idm_ray.runtime.team import Team


class Copies:
    """Which copies there are, and who still needs them.

    Args:
        marks: iterations after which one is made, with the jobs for each.
        evaluations: of the run.
        pauses: whether nobody goes on behind a copy that is not evaluated yet.
    """

    def __init__(
        self,
        marks: Mapping[int, tuple[EvaluationJob, ...]],
        evaluations: Evaluations,
        *,
        pauses: bool,
    ) -> None:
        self._marks = marks
        self._evaluations = evaluations
        self._pauses = sorted(marks) if pauses else []
        self._forgotten: set[int] = set()

    def until(self, iterations: int, evaluated: Collection[EvaluationJob]) -> int:
        """The iteration to go up to: the last of so many, or the next pause."""
        for mark in self._pauses:
            if any(job not in evaluated for job in self._marks[mark]):
                return mark
        return iterations

    def hand_on(self, team: Team, iteration: int, evaluated: Collection[EvaluationJob]) -> None:
        """Submit what is not being evaluated yet; copies that nobody needs are forgotten.

        Args:
            team: who has made them.
            iteration: that every actor has come to.
            evaluated: jobs that are done.
        """
        for mark, jobs in self._marks.items():
            if mark > iteration or mark in self._forgotten:
                continue
            left = [job for job in jobs if job not in evaluated]
            if not left:
                self._forgotten.add(mark)
                for actor in team.class_actors:
                    actor.forget.remote(mark)
            elif waiting := [job for job in left if job not in self._evaluations.under_way]:
                parts = [actor.copies.remote(mark) for actor in team.class_actors]
                self._evaluations.submit(waiting, gathered(parts)[0])

    def start_over(self) -> None:
        """The actors have gone back: copies may be made once more."""
        self._forgotten = set()


def gathered(parts: Sequence[Any]) -> tuple[Any, Any]:
    """References to all images and to what says that they are there.

    On the driver's node: no other node's end takes them away.
    """
    images, are_there = beside_the_driver(actors.gather_images).remote(*parts)
    return images, are_there
