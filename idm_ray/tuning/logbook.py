"""What became of the trials so far: shown, and written down for a search that goes on later."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idm_ray.execution import Listener, Standing
from idm_ray.searches.job import News
from idm_ray.searches.trials import TrialResult
from idm_ray.storage import Location
from idm_ray.tuning.work import Earlier, Report

FILE = "trials.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What became of a search before it was interrupted.

    Attributes:
        drawn: options of its trials, in their order.
        told: what each job told, by its name; a failed one has told nothing that counts.
        seconds: that it took.
    """

    drawn: Sequence[Mapping[str, Any]] = ()
    told: Mapping[str, Earlier] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


class Logbook:
    """Takes what is told of trials.

    Args:
        folder: of the search.
        begin: the result of a trial, by its number and drawn options, when it begins.
        listener: is shown all trials whenever something new is told.
        total: how many there will be; None if nobody knows.
        spent_s: seconds that the search took before it was interrupted.
        clock: seconds of any kind.
    """

    def __init__(
        self,
        folder: Location,
        begin: Callable[[int, Mapping[str, Any]], TrialResult],
        listener: Listener,
        *,
        total: int | None,
        spent_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._begin = folder, begin
        self._listener, self._total = listener, total
        self._clock, self._began = clock, clock() - spent_s
        self._results: dict[int, TrialResult] = {}
        self._drawn: dict[int, Mapping[str, Any]] = {}
        self._reports: dict[int, list[Report]] = {}

    @property
    def results(self) -> list[TrialResult]:
        """Of all trials that began, in the order of their numbers."""
        return [self._results[number] for number in sorted(self._results)]

    def __call__(self, news: News) -> None:
        """Take, show and write down what is told."""
        number = news.number
        result = self._results.get(number) or self._begin(number, news.drawn)
        reports = self._reports.setdefault(number, [])
        if news.metrics is not None:
            kept = ("accuracy", "accuracies", "iteration", "seconds", "complete")
            report = {name: news.metrics[name] for name in kept}
            reports.append(report)
            result = dataclasses.replace(
                result,
                accuracies=tuple(report["accuracies"]),
                iterations=report["iteration"],
                seconds=report["seconds"],
            )
        self._drawn[number] = news.drawn
        self._results[number] = dataclasses.replace(result, status=news.status, cause=news.cause)
        self._listener(Standing(trials=tuple(self.results), total=self._total))
        self._write()

    def _write(self) -> None:
        entries = [
            {
                "number": number,
                "drawn": self._drawn[number],
                "status": self._results[number].status,
                "cause": self._results[number].cause,
                "folder": self._results[number].folder,
                "reports": self._reports[number],
            }
            for number in sorted(self._results)
        ]
        content = {"seconds": round(self._clock() - self._began, 3), "trials": entries}
        with (self._folder / FILE).atomic_write() as file:
            file.write(json.dumps(content, indent=1).encode())


def read_past(folder: Location) -> Past:
    """What became of a search so far."""
    place = folder / FILE
    if not place.exists():
        return Past()
    content = json.loads(place.read_bytes())
    trials = content["trials"]
    return Past(
        drawn=[trial["drawn"] for trial in trials],
        told={
            trial["folder"]: Earlier(
                reports=trial["reports"], has_ended=trial["status"] in ("done", "stopped")
            )
            for trial in trials
        },
        seconds=content["seconds"],
    )
