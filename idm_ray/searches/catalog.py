"""All named searches, and the list of them for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from idm_ray.config import RunConfig
from idm_ray.searches import (
    accuracy_window,
    components,
    joint,
    lambda_reg,
    lr_img,
    partition,
    pretraining,
    push_interval,
    queue_size,
    train_interval,
    train_steps,
)
from idm_ray.searches.search import Search

_MODULES = (
    lambda_reg,
    train_steps,
    queue_size,
    partition,
    push_interval,
    train_interval,
    lr_img,
    accuracy_window,
    components,
    pretraining,
    joint,
)
SEARCHES: Final[Mapping[str, Search]] = MappingProxyType(
    {module.SEARCH.name: module.SEARCH for module in _MODULES}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A search as it is listed for a run.

    Attributes:
        name: as `--search` takes it.
        description: what it varies.
        values: that it tries, or draws from.
        source: figure or table of the paper; empty if there is none.
    """

    name: str
    description: str
    values: str
    source: str


def listing(config: RunConfig) -> tuple[Listed, ...]:
    """What each named search would try in a run.

    Args:
        config: settled, of method idm.

    Raises:
        UserError: another method, which has nothing to vary.
    """
    return tuple(
        Listed(
            name=search.name,
            description=search.description,
            values=values_text(search, config),
            source=search.axis.source,
        )
        for search in SEARCHES.values()
    )


def values_text(search: Search, config: RunConfig) -> str:
    """What a search tries in a run, in one line: its points, or what it draws from."""
    points = search.points(config)
    if points:
        return ", ".join(point.label for point in points)
    drawn = search.distributions(config)
    return "; ".join(f"{option} {distribution}" for option, distribution in drawn.items())
