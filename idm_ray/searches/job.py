"""A run of a search as one of many jobs, and what is told of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo

METRIC: Final = "accuracy"
TIME: Final = "iteration"
"""What trials are compared by, and how far they are; every report has both."""

Tell = Callable[[Mapping[str, Any]], None]
"""Tells how far a job is, and how good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One run of a search.

    Attributes:
        name: of its folder.
        config: settled.
        info: of its data.
        pixels: through networks, by which compiling is decided.
        queue_key: equal for runs that one queue serves; None: the run has its own.
    """

    name: str
    config: RunConfig
    info: DatasetInfo
    pixels: float
    queue_key: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What becomes of a trial.

    Attributes:
        number: of the trial.
        drawn: its options, where those are drawn.
        status: running; done, its work has ended; stopped before that; or failed.
        metrics: what it told, if it told anything now.
        cause: of a failure.
    """

    number: int
    drawn: Mapping[str, Any]
    status: Literal["running", "done", "stopped", "failed"]
    metrics: Mapping[str, Any] | None = None
    cause: str = ""
