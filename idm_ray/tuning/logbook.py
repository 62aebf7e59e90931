"""What became of the trials so far: shown, and written down for a search that goes on later."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from idm_ray.errors import StorageError
from idm_ray.execution import Listener, Standing
from idm_ray.progress import Announcement
from idm_ray.searches.job import News
from idm_ray.searches.trials import TrialResult
from idm_ray.storage import Location
from idm_ray.tuning.work import Earlier, Report

FILE = "trials.json"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What became of a search before it was interrupted.

    Attributes:
        trials: what is written of each, in the order of their numbers.
        seconds: that it took.
    """

    trials: Sequence[Mapping[str, Any]] = ()
    seconds: float = 0.0

    @property
    def drawn(self) -> list[Mapping[str, Any]]:
        """Options of its trials, in their order."""
        return [trial["drawn"] for trial in self.trials]

    @property
    def told(self) -> dict[str, Earlier]:
        """What each job told, by its name."""
        return {
            trial["folder"]: Earlier(reports=trial["reports"], has_ended=_has_ended(trial))
            for trial in self.trials
        }


def _has_ended(trial: Mapping[str, Any]) -> bool:
    return trial["status"] in ("done", "stopped")


_NOTHING = Past()


class Logbook:
    """Takes what is told of trials.

    Args:
        folder: of the search.
        begin: the result of a trial, by its number and drawn options, when it begins.
        listener: is shown all trials whenever something new is told.
        total: how many there will be; None if nobody knows.
        past: of a search that goes on. Its ended trials stay as they are, whatever is told of them
            once more; of the others everything is told anew.
        clock: seconds of any kind.
    """

    def __init__(
        self,
        folder: Location,
        begin: Callable[[int, Mapping[str, Any]], TrialResult],
        listener: Listener,
        *,
        total: int | None,
        past: Past = _NOTHING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._begin = folder, begin
        self._listener, self._total = listener, total
        self._clock, self._began = clock, clock() - past.seconds
        self._results: dict[int, TrialResult] = {}
        self._drawn: dict[int, Mapping[str, Any]] = {}
        self._reports: dict[int, list[Report]] = {}
        self._ended: set[int] = set()
        self._has_failed = False
        for trial in past.trials:
            self._take_up(trial)

    @property
    def results(self) -> list[TrialResult]:
        """Of all trials that began, in the order of their numbers."""
        return [self._results[number] for number in sorted(self._results)]

    def __call__(self, news: News) -> None:
        """Take, show and write down what is told."""
        number = news.number
        if number in self._ended:
            return
        result = self._results.get(number) or self._begin(number, news.drawn)
        reports = self._reports.setdefault(number, [])
        if news.metrics is not None:
            kept = ("accuracy", "accuracies", "iteration", "seconds", "complete")
            report = {name: news.metrics[name] for name in kept}
            reports.append(report)
            result = _with(result, report)
        self._drawn[number] = news.drawn
        self._results[number] = dataclasses.replace(result, status=news.status, cause=news.cause)
        self._listener(Standing(trials=tuple(self.results), total=self._total))
        self._write()

    def _take_up(self, trial: Mapping[str, Any]) -> None:
        """Take up what is written of a trial."""
        number = trial["number"]
        result = self._begin(number, trial["drawn"])
        if _has_ended(trial):
            self._ended.add(number)
            for report in trial["reports"]:
                result = _with(result, report)
            result = dataclasses.replace(result, status=trial["status"], cause=trial["cause"])
        self._drawn[number], self._results[number] = trial["drawn"], result
        self._reports[number] = list(trial["reports"]) if number in self._ended else []

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
        try:
            with (self._folder / FILE).atomic_write() as file:
                file.write(json.dumps(content, indent=1).encode())
        except (OSError, StorageError) as error:
            if not self._has_failed:
                text = f"cannot write {FILE} ({error}): tried again with the next news"
                self._listener(Announcement(text, warning=True))
            self._has_failed = True
        else:
            self._has_failed = False


def read_past(folder: Location) -> Past:
    """What became of a search so far."""
    place = folder / FILE
    if not place.exists():
        return Past()
    content = json.loads(place.read_bytes())
    return Past(trials=content["trials"], seconds=content["seconds"])


def _with(result: TrialResult, report: Report) -> TrialResult:
    """A result with what its trial told last."""
    return dataclasses.replace(
        result,
        accuracies=tuple(report["accuracies"]),
        iterations=report["iteration"],
        seconds=report["seconds"],
    )
