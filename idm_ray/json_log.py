"""Shows a run to machines: a line of JSON for each thing that happens, instead of a terminal's."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from functools import singledispatch
from typing import Any

from rich.console import Console
from rich.table import Table

from idm_ray.execution import Entered, Event, Finished, Standing, Started
from idm_ray.progress import Advanced, Announcement, Committed, Evaluated, Lost, Progress
from idm_ray.work_log import DRIVER, json_line, write_line


class JsonLog:
    """Listens to a run, or to a search, and writes a line for each thing that happens.

    Args:
        write: takes a line; by default to standard error: standard output is for results alone.
    """

    def __init__(self, write: Callable[[str], None] = write_line) -> None:
        self._write_line = write
        self._run: str | None = None
        self._iteration: int | None = None
        self._told_of: set[str] = set()

    def __call__(self, event: Event) -> None:
        """Write the lines of one event; that nothing can be written ends no run."""
        if isinstance(event, Entered):
            self._run = event.run
        if isinstance(event, Started) and event.what == "condense":
            self._iteration = event.done
        if isinstance(event, Progress):
            self._iteration = event.iteration
        if isinstance(event, Standing):
            self._standing(event)
        elif found := _told(event):
            name, of = found
            self._write(name, **of)

    def show(self, result: Table | str) -> None:
        """Print a result, on standard output."""
        Console(highlight=False).print(result, soft_wrap=isinstance(result, str))

    def close(self) -> None:
        """Nothing is left open."""

    def last_line(self, text: str) -> str:
        """Of a command that ends before its work is done; says why."""
        return json_line("ended", **self._where | {"level": "error", "message": text})

    @property
    def _where(self) -> dict[str, Any]:
        return {"run": self._run, "actor": DRIVER, "iteration": self._iteration}

    def _standing(self, event: Standing) -> None:
        """Each trial once, when it ends."""
        for trial in event.trials:
            name = f"{trial.search} {trial.label}, seed {trial.seed}"
            if trial.status != "running" and name not in self._told_of:
                self._told_of.add(name)
                self._write(
                    "trial",
                    iteration=trial.iterations,
                    trial=name,
                    folder=trial.folder,
                    status=trial.status,
                    accuracies=list(trial.accuracies),
                    seconds=trial.seconds,
                    cause=trial.cause or None,
                )

    def _write(self, event: str, **of: Any) -> None:
        self._write_line(json_line(event, **self._where | of))


_Told = tuple[str, Mapping[str, Any]] | None


@singledispatch
def _told(event: Event) -> _Told:
    """What kind of event it is, and what there is to say of it; None for nothing."""
    return None


@_told.register
def _(event: Announcement) -> _Told:
    return "message", {"level": "warning" if event.warning else "info", "message": event.text}


@_told.register
def _(event: Lost) -> _Told:
    who = " and ".join(event.names) or DRIVER
    return "lost", {"level": "warning", "actor": who, "message": event.text}


@_told.register
def _(event: Started) -> _Told:
    return "started", {"what": event.what, "total": event.total, "done": event.done}


@_told.register
def _(event: Progress) -> _Told:
    measured = {**event.losses, **event.queue, **event.data}
    return "progress", {"iteration": event.iteration, **measured, "waiting": event.waiting}


@_told.register
def _(event: Advanced) -> _Told:
    return "advanced", {"done": event.done, "message": event.info}


@_told.register
def _(event: Evaluated) -> _Told:
    return "evaluated", {**event.job.told(), "accuracy": event.accuracy}


@_told.register
def _(event: Committed) -> _Told:
    return "checkpoint", dataclasses.asdict(event)


@_told.register
def _(event: Finished) -> _Told:
    return "finished", {"folder": str(event.folder), "summary": event.summary}


_PLAIN = logging.Formatter()


class RecordsAsJson(logging.Handler):
    """Writes what libraries log as lines of the same kind."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what is wrong with it is no affair of whoever logged it."""
        try:
            of = {"level": record.levelname.lower(), "logger": record.name}
            if record.exc_info:
                of["traceback"] = _PLAIN.formatException(record.exc_info)
            of["message"] = record.getMessage()
            write_line(json_line("log", run=None, actor=DRIVER, iteration=None, **of))
        except Exception:
            self.handleError(record)
