"""Lines of structured logs: one JSON object each, with its run, actor and iteration.

Two write them: the process that drives a run (`idm_ray.json_log`), and its actors, whose standard
error Ray keeps in a file of its own for each process.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from idm_ray.passwords import hide_passwords

# An actor says what it did at most this often, so that the log of a long run stays readable.
LINE_EVERY_S: Final = 30.0

DRIVER: Final = "driver"
"""The actor of a line that the process which drives a run wrote."""


def json_line(event: str, *, run: str | None, actor: str, iteration: int | None, **of: Any) -> str:
    """A line of a structured log.

    Args:
        event: what kind of thing happened.
        run: what the run is called; None before it has a folder.
        actor: who did it, or to whom it happened.
        iteration: finished by then; None where that means nothing.
        **of: what else there is to say; `level` is info unless it is given.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    known = {"time": now, "level": "info", "run": run, "actor": actor, "iteration": iteration}
    return hide_passwords(json.dumps({**known, "event": event, **of}, default=str))


def write_line(line: str) -> None:
    """Write a line to standard error; that nobody can take it ends nothing."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class WorkLog:
    """Says what an actor does, a line every half a minute.

    Args:
        run: what the run is called.
        actor: what the actor is called.
        write: takes a line.
        clock: seconds of any kind.
    """

    def __init__(
        self,
        run: str,
        actor: str,
        *,
        write: Callable[[str], None] = write_line,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known: dict[str, Any] = {"run": run, "actor": actor}
        self._write = write
        self._clock = clock
        self._last, self._busy_s = float("-inf"), 0.0

    def worked(self, iteration: int, busy_s: float) -> None:
        """A call is over.

        Args:
            iteration: after the last one that it went through.
            busy_s: seconds of computing.
        """
        self._busy_s += busy_s
        now = self._clock()
        if now - self._last >= LINE_EVERY_S:
            self.say("worked", iteration, busy_s=round(self._busy_s, 3))
            self._last, self._busy_s = now, 0.0

    def say(self, event: str, iteration: int | None, **of: Any) -> None:
        """Write a line now."""
        self._write(json_line(event, iteration=iteration, **self._known | of))
