"""The trials of a search within a budget: what is drawn, and from what it is made a run."""

import math
from collections.abc import Mapping
from typing import Any

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import UserError
from idm_ray.resolving import settled
from idm_ray.searches.job import Job
from idm_ray.searches.search import Choice, Distribution, Search, value_text
from idm_ray.searches.trials import TrialResult
from idm_ray.tuning.grid import TRIALS, job_of
from idm_ray.tuning.logbook import Past
from idm_ray.tuning.request import Budget


def space_of(
    search: Search,
    budget: Budget,
    base: RunConfig,
    runs: Mapping[str, Any],
    info: DatasetInfo,
) -> Mapping[str, Distribution]:
    """What a search draws from, looked at before anything runs.

    Args:
        search: to draw for.
        budget: of trials or time.
        base: config of a run without what is drawn.
        runs: options of all runs.
        info: of the data.

    Raises:
        UserError: the search is a grid only, there are fewer settings than trials, or a value is
            none that a run allows.
    """
    space = search.distributions(base)
    if not space:
        raise UserError(
            f"expected a search that settings can be drawn from for --budget, got {search.name}, "
            "whose points are a grid; leave out --budget"
        )
    _refuse_repeats(space, budget)
    for name, distribution in space.items():
        for value in distribution.ends:
            settled({**runs, name: value}, info)
    return space


def _refuse_repeats(space: Mapping[str, Distribution], budget: Budget) -> None:
    """Refuse to draw more often than there are settings to draw."""
    if not all(isinstance(one, Choice) for one in space.values()):
        return
    settings = math.prod(len(one.ends) for one in space.values())
    if budget.trials is None or budget.trials > settings:
        raise UserError(
            f"expected a budget of at most {settings} trials for {' x '.join(space)}, of which "
            "there are no more settings; leave out --budget to try them all, or search in ranges "
            "(--search all)"
        )


def is_left(budget: Budget, past: Past, *, is_complete: bool) -> bool:
    """Whether anything of a budget is left for a search that goes on."""
    is_in_time = budget.seconds is None or past.seconds < budget.seconds
    return not is_complete and is_in_time


def drawn_job(
    runs: Mapping[str, Any],
    info: DatasetInfo,
    number: int,
    drawn: Mapping[str, Any],
    *,
    queue_key: str | None,
) -> Job:
    """The run of a trial.

    Args:
        runs: options of all runs.
        info: of the data.
        number: of the trial.
        drawn: its own options.
        queue_key: of the queue that all trials share; None: each has its own.
    """
    config = settled({**runs, **drawn}, info)
    return job_of(_folder_of(number), config, info, queue_key=queue_key)


def drawn_result(search: str, seed: int, number: int, drawn: Mapping[str, Any]) -> TrialResult:
    """What there is to say of a trial when it begins."""
    label = ", ".join(f"{name} {value_text(value)}" for name, value in drawn.items())
    return TrialResult(
        search=search,
        label=f"trial {number}: {label}",
        options=drawn,
        seed=seed,
        status="running",
        folder=_folder_of(number),
    )


def own_settings(base: RunConfig, space: Mapping[str, Distribution]) -> Mapping[str, Any]:
    """The run's own settings, as the first to try, or what is nearest to them.

    A queue larger than is ever filled, say, is as good as the largest one that is.
    """
    flat = base.flat()
    return {name: distribution.nearest(flat[name]) for name, distribution in space.items()}


def _folder_of(number: int) -> str:
    return f"{TRIALS}/trial-{number}"
