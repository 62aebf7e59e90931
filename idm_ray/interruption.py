"""Signals that end a run, put off while they would come at a bad moment.

A signal is the process's own affair, and so is what is kept here.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator

# How long whoever tells a process to end waits for it, if nothing is said of that.
_PATIENCE_S = 10.0

# Longest time for which a signal is not noticed in `sleep`.
_LOOK_EVERY_S = 0.25

_noted: BaseException | None = None
_held = False


def patience_s() -> float:
    """Seconds from being told to end to being ended, as the environment says it to Ray, too."""
    try:
        told = float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", _PATIENCE_S))
    except ValueError:
        return _PATIENCE_S
    return told if math.isfinite(told) and told > 0 else _PATIENCE_S


def hold() -> None:
    """From now on, an end that is asked for comes at the next `check`, and not before."""
    global _held  # noqa: PLW0603 -- signals are global to the process
    _held = True


def end(reason: BaseException) -> None:
    """End what goes on: raise `reason`, now or at the next `check`; when asked again, now."""
    global _noted  # noqa: PLW0603
    if not _held or _noted is not None:
        raise reason
    _noted = reason


def check() -> None:
    """Raise what `end` was called with, if it was."""
    global _noted
    if _noted is not None:
        reason, _noted = _noted, None
        raise reason


@contextlib.contextmanager
def undisguised() -> Iterator[None]:
    """Raise the end that was asked for, and not the error that its sudden coming caused.

    It may come where a library has begun something and cannot undo it yet, such as between the
    entry of a PyTorch mode and the note that it was entered; the way out then fails.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, KeyboardInterrupt | SystemExit):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        raise


def sleep(seconds: float) -> None:
    """Sleep, and check meanwhile; only sleep in any but the main thread, which gets the signals."""
    deadline = time.monotonic() + seconds
    while (left_s := deadline - time.monotonic()) > 0:
        if threading.current_thread() is threading.main_thread():
            check()
        time.sleep(min(left_s, _LOOK_EVERY_S))
