"""What a trial does: run its job where it is, and tell how good it is."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.evaluation_jobs import marks
from idm_ray.execution import Event
from idm_ray.progress import Evaluated
from idm_ray.run import condense_with
from idm_ray.searches.job import METRIC, TIME, Job, Tell
from idm_ray.storage import Location

if TYPE_CHECKING:
    from idm_ray.runtime.hosting import Host

Report = Mapping[str, Any]
"""What a trial tells: accuracy, accuracies of the networks, iteration, seconds, complete."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """What a trial told before its search was interrupted.

    Attributes:
        reports: in their order.
        has_ended: whether there is nothing left to do.
    """

    reports: Sequence[Report]
    has_ended: bool


def run_job(
    job: Job, host: "Host", tell: Tell, *, folder: Location, earlier: Mapping[str, Earlier]
) -> None:
    """Run, or go on with, one job of a search in the room of its trial.

    Args:
        job: which.
        host: what it is given.
        tell: is told how good it is; it may end this process.
        folder: of the search.
        earlier: what jobs told before, by their names; it is told again, as whoever compares them
            has forgotten it.
    """
    before = earlier.get(job.name, Earlier(reports=(), has_ended=False))
    for report in before.reports:
        tell(report)
    if before.has_ended:
        return
    finished = condense_with(
        partial(_guest, host),
        job.config.flat(),
        out=(folder / job.name).address,
        overwrite=False,
        resume="auto",
        listener=_Marks(job, tell),
        # Trials of other searches are called the same.
        name=f"{folder.name}/{job.name.rpartition('/')[2]}",
    )
    tell(final_report(finished.summary))


def final_report(summary: Mapping[str, Any]) -> Report:
    """What a complete run tells."""
    accuracies = summary["evaluation"]["accuracies"]
    return _report(accuracies, summary["iterations"], summary["seconds"], complete=True)


class _Marks:
    """Tells of each copy when all networks that were trained on it are tested."""

    def __init__(self, job: Job, tell: Tell) -> None:
        self._marks, self._tell = marks(job.config), tell
        self._found: dict[int, list[float]] = {}
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Evaluated) or event.job.iteration not in self._marks:
            return
        at = event.job.iteration
        found = self._found.setdefault(at, [])
        found.append(event.accuracy)
        if len(found) == len(self._marks[at]):
            self._tell(_report(found, at, time.monotonic() - self._began, complete=False))


def _report(
    accuracies: Sequence[float], iteration: int, seconds: float, *, complete: bool
) -> Report:
    return {
        METRIC: sum(accuracies) / len(accuracies),
        "accuracies": list(accuracies),
        TIME: iteration,
        "seconds": seconds,
        "complete": complete,
    }


def _guest(host: "Host", config: RunConfig, info: DatasetInfo, **how: Any) -> Any:
    from idm_ray.runtime.driver import RayRunner  # noqa: PLC0415 -- heavy, and for trials alone

    return RayRunner(config, info, marks(config), host=host, **how)
