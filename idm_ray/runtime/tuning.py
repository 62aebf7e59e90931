"""Runs the trials of a search on Ray Tune, each in room of its own."""

import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from ray import tune
from ray.exceptions import RayError
from ray.tune.experiment import Trial

from idm_ray import interruption
from idm_ray.errors import ActorLostError, IdmRayError
from idm_ray.layout import Layout, cut_groups, deal
from idm_ray.runtime.connection import cause_in, cause_of
from idm_ray.runtime.hosting import Host
from idm_ray.runtime.trial_rooms import TrialRooms
from idm_ray.runtime.tried import TOLD, Tried
from idm_ray.searches.job import METRIC, Job, News, Tell
from idm_ray.storage import Location

# What Tune reads from the environment: this process's own affairs stay its own.
_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}

LOGS = "logs"
"""Folder of what Tune writes, TensorBoard's events among it, below that of the search."""

Work = Callable[[Job, Host, Tell], None]
"""Runs a job in the room of its trial."""


def run_trials(
    tried: Tried,
    rooms: TrialRooms,
    work: Work,
    *,
    storage: Location,
    callbacks: Sequence[tune.Callback],
    told: Callable[[News], None],
) -> None:
    """Run all trials, as many at a time as there is room for.

    Args:
        tried: which.
        rooms: of them.
        work: what a trial does.
        storage: folder below which Tune keeps its records.
        callbacks: of Tune, more than those that it has anyhow.
        told: is told what becomes of each trial.

    Raises:
        ActorLostError: Tune gave up, as it does when the system takes a trial's memory.
    """
    os.environ.update(_SETTINGS)
    # Why a trial failed is told in a line.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    find = _Find(tried, rooms)
    trainable = tune.with_resources(
        tune.with_parameters(_trial, work=work, find=find.there(), titles=tried.titles),
        find.room,
    )
    options, titles = tried.tuner_options(), tried.titles
    filesystem, path = storage.arrow()
    tuner = tune.Tuner(
        trainable,
        param_space=options.pop("param_space"),
        tune_config=tune.TuneConfig(
            trial_dirname_creator=lambda trial: _title(titles, trial.config),
            # Who searches knows it from the searcher.
            **({"metric": METRIC, "mode": "max"} | options),
        ),
        run_config=tune.RunConfig(
            name=LOGS,
            storage_path=path,
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[_Watch(told), *callbacks],
        ),
    )
    try:
        tuner.fit()
    except RuntimeError as error:
        if not isinstance(error.__cause__, RayError):
            raise
        raise ActorLostError(
            f"the search ended early, as Tune lost its trials: {cause_of(error.__cause__)}; what "
            "is complete is kept: go on by the same command with --resume auto"
        ) from error


class _Find:
    """Finds job and host of a trial."""

    def __init__(self, tried: Tried, rooms: TrialRooms) -> None:
        self._tried, self._rooms = tried, rooms

    def room(self, config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        job = self._tried.lodger(config.get("job", 0))
        # The trial's own process takes nothing.
        bundles = [{}, *self._rooms.bundles(job)]
        return tune.PlacementGroupFactory(bundles, strategy=job.config.machine.placement.upper())

    def there(self) -> Callable[[Mapping[str, Any]], tuple[Job, Host]]:
        """The same, for the process of a trial."""
        return _FindThere(self._tried, self._rooms.hosts)


def _of_job(layout: Layout, job: Job) -> Layout:
    """A layout with the groups of a job dealt: what is drawn may cut classes into others."""
    size = int(job.config.condense.classes_per_group)
    return deal(layout, layout.actors, len(cut_groups(job.info.num_classes, size)))


def _of_config(config: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Number and drawn options of a trial."""
    return config["job"], {n: v for n, v in config.items() if n not in ("job", TOLD)}


class _FindThere:
    def __init__(self, tried: Tried, hosts: Mapping[str, Host]) -> None:
        self._tried, self._hosts = tried, hosts

    def __call__(self, config: Mapping[str, Any]) -> tuple[Job, Host]:
        number, drawn = _of_config(config)
        host = self._hosts[self._tried.lodger(number).name]
        job = self._tried.job(number, drawn)
        return job, dataclasses.replace(host, layout=_of_job(host.layout, job))


def _title(titles: Sequence[str], config: Mapping[str, Any]) -> str:
    """What a trial is called in the logs."""
    return titles[config["job"]] if titles else f"trial-{config['job']}"


def _trial(config: dict[str, Any], *, work: Work, find: _FindThere, titles: Sequence[str]) -> None:
    try:
        job, host = find(config)
        work(job, host, lambda metrics: tune.report(dict(metrics)))
    except Exception as error:
        text = " ".join(str(error).split())
        if not isinstance(error, IdmRayError | OSError):
            # Not the user's: where to read more.
            text = f"{type(error).__name__}: {text} ({LOGS}/{_title(titles, config)}/error.txt)"
        raise TrialFailedError(text) from error


class TrialFailedError(Exception):
    """Why a trial failed, in a line."""


_FAILED = f"{TrialFailedError.__module__}.{TrialFailedError.__qualname__}: "


class _Watch(tune.Callback):
    """Tells what becomes of trials, and lets signals through."""

    def __init__(self, told: Callable[[News], None]) -> None:
        self._told = told
        self._open: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune keeps a copy for a way to go on that is not used here."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        interruption.check()

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._open[trial.trial_id] = trial
        self._tell(trial, "running")

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Trial],
        trial: Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        self._tell(trial, "running", result)

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._open.pop(trial.trial_id, None)
        last = trial.last_result or {}
        self._tell(trial, "done" if last.get("complete") else "stopped")

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._open.pop(trial.trial_id, None)
        self._tell(trial, "failed", cause=_cause(trial))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        """Trials that were cut off by the end of the time are told of by nobody else."""
        for trial in self._open.values():
            self._tell(trial, "stopped")

    def _tell(self, trial: Trial, status: Any, metrics: Any = None, cause: str = "") -> None:
        number, drawn = _of_config(trial.config)
        self._told(News(number=number, drawn=drawn, status=status, metrics=metrics, cause=cause))


def _cause(trial: Trial) -> str:
    """Why a trial failed, in a line.

    From the text that Tune has just written, not from the error that it has pickled beside it: the
    folder is one of Ray's, which all users of a machine may write to, and to unpickle is to run.
    """
    if trial.pickled_error_file is None:
        return "its process could not be started"
    _, _, text = Path(trial.error_file).read_text().partition("\n")
    told = [line for line in text.splitlines() if line.startswith(_FAILED)]
    return told[-1].removeprefix(_FAILED) if told else cause_in(text)


def loggers(names: Sequence[str], experiment: str) -> Iterator[tune.Callback]:
    """Tune's callbacks for MLflow and Weights & Biases, which must be installed.

    Args:
        names: mlflow, wandb.
        experiment: what trials are filed under.
    """
    for name in names:
        if name == "mlflow":
            from ray.air.integrations.mlflow import MLflowLoggerCallback  # noqa: PLC0415

            yield MLflowLoggerCallback(experiment_name=experiment)
        else:
            from ray.air.integrations.wandb import WandbLoggerCallback  # noqa: PLC0415

            yield WandbLoggerCallback(project="idm_ray", group=experiment)
