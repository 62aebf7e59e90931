"""What the trials of a search are: every point of a grid, or what Optuna draws and ASHA stops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from idm_ray.searches.job import METRIC, TIME, Job
from idm_ray.searches.rungs import FACTOR, first_rung
from idm_ray.searches.search import Choice, Distribution, LogUniform

TOLD = "setting"
"""What is told of a trial in the logs beside its number and what is drawn."""

# Random trials before the searcher has an opinion.
_RANDOM_TRIALS = 6


class Tried(Protocol):
    """What is tried: a `Grid`, or `Draws`."""

    def job(self, number: int, drawn: Mapping[str, Any]) -> Job:
        """The run of a trial; called where it runs."""

    def lodger(self, number: int) -> Job:
        """A job with the room of that trial."""

    @property
    def titles(self) -> Sequence[str]:
        """What trials are called in the logs; empty: by their numbers."""

    def tuner_options(self) -> dict[str, Any]:
        """How Tune goes about it: arguments of `tune.TuneConfig` and `param_space`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Every job once, to its end.

    Attributes:
        jobs: to run.
        settings: what is told of each in the logs: its options and its seed.
    """

    jobs: tuple[Job, ...]
    settings: tuple[Mapping[str, Any], ...]

    def job(self, number: int, drawn: Mapping[str, Any]) -> Job:
        """The job of that number."""
        return self.jobs[number]

    def lodger(self, number: int) -> Job:
        """The job itself."""
        return self.jobs[number]

    @property
    def titles(self) -> Sequence[str]:
        """As the folders of their runs are."""
        return [job.name.rpartition("/")[2] for job in self.jobs]

    def tuner_options(self) -> dict[str, Any]:
        """The numbers as a grid, first come first served."""
        settings = self.settings  # alone: Tune keeps what it is given, and jobs know passwords
        numbers = tune.grid_search(list(range(len(settings))))
        told = tune.sample_from(lambda config: dict(settings[config["job"]]))
        return {"param_space": {"job": numbers, TOLD: told}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Draws:
    """Jobs with drawn options, of which the worse ones are stopped early.

    Attributes:
        base: the job without what is drawn; all have its room.
        make: the job of a number and of drawn options.
        space: what each option is drawn from.
        first: options to go through before any are drawn.
        searcher: tpe draws near the best so far; random does not.
        stops: whether trials are stopped early.
        seed: of the drawing.
        trials: how many there are, those of `first` included; None for as many as there is time.
        seconds: after which no trial goes on; None for any time.
    """

    base: Job
    make: Callable[[int, Mapping[str, Any]], Job]
    space: Mapping[str, Distribution]
    first: Sequence[Mapping[str, Any]]
    searcher: Literal["tpe", "random"]
    stops: bool
    seed: int
    trials: int | None
    seconds: float | None

    def job(self, number: int, drawn: Mapping[str, Any]) -> Job:
        """The job with these options."""
        return self.make(number, drawn)

    def lodger(self, number: int) -> Job:
        """The base: drawn options change no room."""
        return self.base

    @property
    def titles(self) -> Sequence[str]:
        """None: nobody knows yet what is drawn."""
        return ()

    def tuner_options(self) -> dict[str, Any]:
        """Optuna draws, and ASHA stops what is not in the best third at a rung."""
        # A search that goes on does not begin with what it has drawn before.
        seed = self.seed + len(self.first)
        sampler: Any = (
            optuna.samplers.RandomSampler(seed=seed)
            if self.searcher == "random"
            else optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_RANDOM_TRIALS, constant_liar=True
            )
        )
        space = {name: _of_optuna(distribution) for name, distribution in self.space.items()}
        search = OptunaSearch(
            space,
            metric=METRIC,
            mode="max",
            sampler=sampler,
            points_to_evaluate=[dict(point) for point in self.first],
        )
        iterations = self.base.config.condense.iterations
        asha = ASHAScheduler(
            time_attr=TIME,
            max_t=iterations,
            grace_period=first_rung(iterations),
            reduction_factor=FACTOR,
            stop_last_trials=False,
        )
        return {
            "param_space": {},
            "search_alg": _Numbered(search),
            "scheduler": asha if self.stops else None,
            "num_samples": -1 if self.trials is None else self.trials,
            "time_budget_s": self.seconds,
        }


class _Numbered(Searcher):
    """A searcher that numbers what it suggests."""

    def __init__(self, inner: OptunaSearch) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._inner, self._count = inner, 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._inner.suggest(trial_id)
        if found is None:
            return None
        self._count += 1
        return {"job": self._count - 1, **found}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._inner.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._inner.on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a search goes on from what its trials have shown."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing is kept."""


def _of_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    if isinstance(distribution, Choice):
        return optuna.distributions.CategoricalDistribution(distribution.values)
    low, high = distribution.low, distribution.high
    if isinstance(distribution, LogUniform) and distribution.is_whole:
        return optuna.distributions.IntDistribution(int(low), int(high), log=True)
    return optuna.distributions.FloatDistribution(
        low, high, log=isinstance(distribution, LogUniform)
    )
