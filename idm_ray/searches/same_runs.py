"""Points of a search that give the same run within the iterations there are: one of them runs."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from idm_ray.config import RunConfig
from idm_ray.searches.queue_sequence import Seen, networks_of
from idm_ray.searches.search import Point, Search

# They act through the sequence of networks alone.
_OF_THE_SEQUENCE: Final = (
    "queue_size",
    "queue_init",
    "push_interval",
    "train_interval",
    "num_trained_models",
    "train_steps",
    "accuracy_window",
)
_OF_PRETRAINING: Final = ("pretrain_steps", "pretrained_classes")
# Beyond so many letters, the table says better which points are the same.
_LONGEST_NOTE: Final = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The points of a search for a run, and which of them are to be run.

    Attributes:
        search: whose points they are.
        points: all, in their order.
        same_as: label of a point that is not to be run -> label of the one that gives its images.
        own: label of the point that the run as it is given would give; None if none does.
        iterations: of the run.
    """

    search: Search
    points: tuple[Point, ...]
    same_as: Mapping[str, str]
    own: str | None
    iterations: int

    @property
    def to_run(self) -> tuple[Point, ...]:
        """Points that differ from each other."""
        return tuple(point for point in self.points if point.label not in self.same_as)

    @property
    def note(self) -> str | None:
        """What people should know of points that are not run; None if all are."""
        groups = [
            [first.label, *(label for label, same in self.same_as.items() if same == first.label)]
            for first in self.to_run
        ]
        merged = [" = ".join(labels) for labels in groups if len(labels) > 1]
        if not merged:
            return None
        which = "; ".join(merged)
        if len(which) > _LONGEST_NOTE:
            which = f"{len(self.same_as)} of {len(self.points)} points are as others of them"
        return (
            f"{self.search.name}: {which}: cannot differ within {self.iterations} iterations, "
            "run once"
        )


def select(search: Search, config: RunConfig, seeds: Sequence[int]) -> Selection:
    """The points of a search, those that cannot differ told apart from the others.

    Args:
        search: with a grid.
        config: settled, without what the search sets.
        seeds: that every point is to be run with; points are the same if they are for all.

    Raises:
        UserError: a point is no config that is allowed.
    """
    points = search.points(config)
    configs = {point.label: config.replace(**point.options) for point in points}
    same_as: dict[str, str] = {}
    for label, of_point in configs.items():
        earlier = (other for other in configs if other not in same_as)
        for other in earlier:
            if other == label:
                break
            if _are_same(of_point, configs[other], seeds):
                same_as[label] = other
                break
    exactly = (label for label, of_point in configs.items() if of_point == config)
    in_effect = (label for label, found in configs.items() if _are_same(found, config, seeds))
    return Selection(
        search=search,
        points=points,
        same_as=same_as,
        own=next(itertools.chain(exactly, in_effect), None),
        iterations=config.condense.iterations,
    )


def _are_same(one: RunConfig, other: RunConfig, seeds: Sequence[int]) -> bool:
    """Whether two runs give the same images."""
    if _plain_options(one) != _plain_options(other):
        return False
    if one.queue == other.queue:
        return True
    # Without the regularization nobody asks for the accuracy.
    with_accuracy = one.condense.lambda_reg > 0
    return all(
        _decisive(seen, with_accuracy) == _decisive(of_other, with_accuracy)
        for seed in seeds
        for seen, of_other in zip(
            networks_of(one.replace(seed=seed)), networks_of(other.replace(seed=seed)), strict=True
        )
    )


def _plain_options(config: RunConfig) -> dict[str, Any]:
    """Options that are compared as they are."""
    left_out = _OF_THE_SEQUENCE if config.queue.pretrained else _OF_THE_SEQUENCE + _OF_PRETRAINING
    return {name: value for name, value in config.flat().items() if name not in left_out}


def _decisive(seen: Seen, with_accuracy: bool) -> Seen:
    """What the images depend on."""
    return seen if with_accuracy else tuple((model, age, None) for model, age, _ in seen)
