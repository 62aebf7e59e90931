"""Which options change the numbers of a run, and in which of those somebody who goes on differs."""

from collections.abc import Mapping
from typing import Any, Final

from idm_ray.network_names import one_name

# Where and how something is computed, read and kept, not what. The data themselves are compared by
# their fingerprint, wherever they lie by now.
NEUTRAL_OPTIONS: Final = (
    "data",
    "data_root",
    "label_column",
    "strict",
    "cache",
    "cache_dir",
    "cache_limit",
    "local",
    "actors",
    "cpus_per_actor",
    "gpus_per_actor",
    "placement",
    "wait_s",
    "checkpoint_interval",
    "max_failures",
    "hang_timeout_s",
)

_LONGEST: Final = 60


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """Tell which of the given options would give other numbers than the run that was begun.

    Args:
        stored: all flat options of that run, as it resolved them.
        given: those that somebody asks for now, as far as he does. "auto" asks for whatever was
            resolved; the name of a recipe asks for nothing but the options that it stands for.

    Returns:
        A line for each, such as "lambda_reg 0.5 there, 0.1 now"; none if the run can go on.

    Raises:
        UserError: a network whose name has a part that is not known.
    """
    return tuple(
        f"{name} {_shown(stored[name])} there, {_shown(value)} now"
        for name, value in given.items()
        if name not in (*NEUTRAL_OPTIONS, "recipe") and not _asks_for(name, value, stored[name])
    )


def _asks_for(name: str, value: object, stored: object) -> bool:
    """Whether a value is the stored one, however it is written."""
    if name == "network" and isinstance(value, str):
        value = one_name(value)
    return value in ("auto", stored)


def _shown(value: object) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
