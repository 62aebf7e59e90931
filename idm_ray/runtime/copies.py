"""Copies of the images that class actors make on the way: evaluated, and forgotten in time."""

from collections.abc import Mapping, Sequence
from typing import Any

from idm_ray.evaluation_jobs import best_iterate
from idm_ray.plan import EvaluationJob
from idm_ray.runtime import actors
from idm_ray.runtime.connection import fetch
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

    def until(self, iterations: int, evaluated: Mapping[EvaluationJob, float]) -> int:
        """The iteration to go up to: the last of so many, or the next pause."""
        for mark in self._pauses:
            if any(job not in evaluated for job in self._marks[mark]):
                return mark
        return iterations

    def hand_on(self, team: Team, iteration: int, evaluated: Mapping[EvaluationJob, float]) -> None:
        """Submit what is not being evaluated yet; copies that nobody needs are forgotten.

        That of the iterate to select, as far as is known, stays with the actors, and so in every
        checkpoint.

        Args:
            team: who has made them.
            iteration: that every actor has come to.
            evaluated: accuracies of jobs that are done.
        """
        made = {mark: jobs for mark, jobs in self._kept.items() if mark <= iteration}
        best = best_iterate(made, evaluated)
        for mark, jobs in made.items():
            left = [job for job in jobs if job not in evaluated]
            if not left:
                if mark != best:
                    self._forget(team, mark)
            elif waiting := [job for job in left if job not in self._evaluations.under_way]:
                self._evaluations.submit(waiting, _of_all(team, mark)[0])

    def to_select_from(self, team: Team) -> dict[int, Any]:
        """References to the copies of which one may yet be selected, for when the team is gone.

        Args:
            team: who has made them; all of them are made.
        """
        evaluating = self._evaluations.images
        found = {}
        for mark, jobs in self._kept.items():
            if mark in evaluating:
                found[mark] = evaluating[mark]
            elif any(job.selects for job in jobs):
                found[mark], is_there = _of_all(team, mark)
                fetch(is_there)
        return found

    def start_over(self) -> None:
        """The actors have gone back: copies may be made once more."""
        self._forgotten = set()

    @property
    def _kept(self) -> dict[int, tuple[EvaluationJob, ...]]:
        """Marks whose copies are not forgotten, as far as they are made."""
        return {mark: jobs for mark, jobs in self._marks.items() if mark not in self._forgotten}

    def _forget(self, team: Team, mark: int) -> None:
        self._forgotten.add(mark)
        for actor in team.class_actors:
            actor.forget.remote(mark)


def _of_all(team: Team, mark: int) -> tuple[Any, Any]:
    """References to the whole copy that was made at a mark, as those of `gathered`."""
    return gathered([actor.copies.remote(mark) for actor in team.class_actors])


def gathered(parts: Sequence[Any]) -> tuple[Any, Any]:
    """References to all images and to what says that they are there.

    On the driver's node: no other node's end takes them away.
    """
    images, are_there = beside_the_driver(actors.gather_images).remote(*parts)
    return images, are_there
