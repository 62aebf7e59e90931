"""What a search is asked to do: the options of its runs, and how many runs there may be."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from idm_ray.checks import check_types, refuse_unknown
from idm_ray.config import option_names
from idm_ray.errors import UserError
from idm_ray.resolving import plain_values

# Settings are compared on images that nothing was trained on, and that are no test images.
DEFAULTS: Final[Mapping[str, Any]] = {
    "val_fraction": 0.2,
    "actors": 1,
    "repeats": 2,
    "eval_epochs": 300,
    "checkpoint_interval": "60s",
}

# What a search decides for its runs, and nobody else.
DECIDED: Final[Mapping[str, Any]] = {
    "eval_split": "validation",
    "eval_interval": 0,
    "eval_at": None,
    "select": "last",
    "baselines": "off",
    "whole_epochs": 0,
    "local": False,
}

DEFAULT_SEEDS: Final = 2

LOGGERS: Final = ("mlflow", "wandb")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """How much a search with drawn settings may take; the other is None.

    Attributes:
        trials: so many.
        seconds: as many as there is time for.
    """

    trials: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """All points of the grids of some searches, each to its end.

    Attributes:
        seeds: how often each point is tried, with consecutive seeds from that of the options.
    """

    seeds: int = DEFAULT_SEEDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """Settings drawn from the space of one search, within a budget.

    Attributes:
        budget: 20, so many trials, or 2h, so much time.
        searcher: tpe draws near the best so far; random does not.
        early_stopping: whether trials that are worse than others are stopped.
    """

    budget: str
    searcher: Literal["tpe", "random"] = "tpe"
    early_stopping: Literal["on", "off"] = "on"

    def __post_init__(self) -> None:
        """Check each value."""
        parse_budget(self.budget)
        check_types(self)


def parse_budget(text: str) -> Budget:
    """Read a budget such as 20, trials, or 2h, time (s, m or h).

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if match is not None and float(match[1]) > 0:
        if match[2]:
            return Budget(seconds=float(match[1]) * _UNITS[match[2]])
        if match[1].isdecimal():
            return Budget(trials=int(match[1]))
    raise UserError(f"budget must be trials such as 20, or time such as 90m or 2h, got {text!r}")


def options_of_runs(
    given: Mapping[str, Any], gpus_per_trial: float | None, *, pauses: bool = False
) -> dict[str, Any]:
    """The options of all runs of a search, but for what it varies.

    Args:
        given: flat options of the user.
        gpus_per_trial: that a trial's processes share; None as `given` says.
        pauses: whether copies are evaluated on the way, beside the class actors and the queue.

    Raises:
        UserError: an unknown option, or one that is the search's own affair.
    """
    given = plain_values(given)
    refuse_unknown(given, option_names())
    for name, value in DECIDED.items():
        if name in given and given[name] != value:
            raise UserError(
                f"expected no {name} for a search, which has its own ({value}), got "
                f"{given[name]}; leave it out"
            )
    options = {**DEFAULTS, **given, **DECIDED}
    if not options["repeats"]:
        raise UserError("repeats must be at least 1 for a search, got 0")
    if not options["val_fraction"]:
        raise UserError(
            "val_fraction must be above 0 for a search, whose settings are compared on validation "
            "images, got 0"
        )
    if gpus_per_trial is None:
        return options
    if "gpus_per_actor" in given:
        raise UserError("expected --gpus-per-trial or --gpus-per-actor, got both; give one")
    if options["actors"] == "auto":
        raise UserError("--gpus-per-trial needs --actors, a number; leave out --actors auto")
    share = gpus_per_trial / (options["actors"] + 1 + pauses)
    return options | {"gpus_per_actor": share if share < 1 else float(int(share))}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that there are not, or that are not installed.

    Raises:
        UserError: names them.
    """
    refuse_unknown(names, LOGGERS, what="logger")
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"expected {name} to be installed for --log {name}, found no such package; "
                f"pip install {name}"
            )
