"""metrics.jsonl: one JSON line for each report of a run, in the order in which they were made.

A run that goes back to its last checkpoint reports once more what it has reported already, with the
same numbers. So nothing is ever cut from the log: a report that is there is left out, and what
tells one report from another is said here.
"""

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from idm_ray.results.appended import AppendedFile

# By what a report is known: the first of these that it has.
_PROGRESS: Final = ("iteration",)
_KEYS: Final = (("pretrained",), ("pushed",), ("subject", "repeat", "iteration"), _PROGRESS)


class MetricsLog:
    """The log of a run, which one process writes; any of its threads.

    A line that cannot be written is kept in memory and tried again with the next one; the file
    never holds a part of a line for longer than the disk takes to become writable.

    Args:
        path: of the file; it need not exist. The part of a line at its end, left by a process that
            was killed, is cut off. Other lines that cannot be read are kept and ignored.

    Raises:
        OSError: it exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._there: set[tuple[Any, ...]] = set()
        self._progress: tuple[Any, ...] = (0,)
        self._adding = threading.Lock()
        self._has_failed = False
        content = path.read_bytes() if path.exists() else b""
        end = content.rfind(b"\n") + 1
        for report in _readable(content[:end]):
            self._remember(report)
        self._file = AppendedFile(path, end)

    @property
    def iteration(self) -> int:
        """Of the last line of progress; 0 if there is none."""
        return int(self._progress[0])

    def add(self, report: Mapping[str, Any]) -> str | None:
        """Append a report, unless it is there; on return, the system has it or it is kept.

        Returns:
            What people should know: once that lines cannot be written, and once that they can
            again; None otherwise.

        Raises:
            ValueError: a number is not finite.
        """
        try:
            line = json.dumps(report, allow_nan=False).encode() + b"\n"
        except ValueError as error:
            raise ValueError(f"expected finite numbers in a report, found {report}") from error
        if not self._remember(report):
            return None
        with self._adding:
            had_failed = self._has_failed
            try:
                self._file.append(line)
            except OSError as error:
                self._has_failed = True
                told = f"cannot write to {self._path} ({error.strerror}): its lines are kept"
                return None if had_failed else f"{told}, and tried again with the next"
            self._has_failed = False
        return f"{self._path} can be written to again and is complete" if had_failed else None

    def knows(self, report: Mapping[str, Any]) -> bool:
        """Whether a report is there, so that `add` leaves it out."""
        names, about = _key(report)
        if names == _PROGRESS:
            # It is the mean over the iterations since the line before, and has to go beyond that.
            return about <= self._progress
        return (names, about) in self._there

    def flush(self) -> None:
        """Write the lines that could not be written yet, if there are any.

        Raises:
            OSError: they still cannot; names the file. They are kept.
        """
        self._file.flush()

    def _remember(self, report: Mapping[str, Any]) -> bool:
        """Whether the report is a new one; from now on it is not."""
        if self.knows(report):
            return False
        names, about = _key(report)
        if names == _PROGRESS:
            self._progress = about
        elif names:
            self._there.add((names, about))
        return True


def _key(report: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """What a report is about, as names and values; none for a kind that is not known here."""
    for names in _KEYS:
        if all(isinstance(report.get(name), str if name == "subject" else int) for name in names):
            return names, tuple(report[name] for name in names)
    return (), ()


def read_reports(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The reports that a log holds, in their order; lines that cannot be read are left out.

    Raises:
        OSError: it exists and cannot be read.
    """
    return parse_reports(path.read_bytes()) if path.exists() else ()


def parse_reports(content: bytes) -> tuple[Mapping[str, Any], ...]:
    """The same, of what a log holds."""
    return tuple(_readable(content))


def is_progress(report: Mapping[str, Any]) -> bool:
    """Whether a report is about the iterations since the one before."""
    return _key(report)[0] == _PROGRESS


def _readable(content: bytes) -> Iterator[Mapping[str, Any]]:
    for line in content.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            report = json.loads(line)
            if isinstance(report, dict):
                yield report
