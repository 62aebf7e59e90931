"""How a command ends: its exit status, one line about what was wrong, and what signals do."""

import errno
import os
import signal
import sys
import threading
import traceback
from typing import NoReturn

import click

from idm_ray import interruption
from idm_ray.errors import IdmRayError, UserError
from idm_ray.passwords import hide_passwords
from idm_ray.showing import last_line

# Of the time that whoever sent a signal waits: then all that can be saved is saved, or never is.
_CLEANING_UP = 0.9

_TERMINATED = 128 + signal.SIGTERM


def run_and_exit(command: click.Command) -> NoReturn:
    """Run a command line and exit: 0 success, 2 the user's or the data's fault, 1 anything else.

    130 after Ctrl-C, 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _interrupted)
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except (click.ClickException, IdmRayError, OSError) as error:
        _complain(error)
        sys.exit(2 if isinstance(error, click.UsageError | UserError) else 1)
    except (KeyboardInterrupt, click.Abort):
        _say("idm-ray: interrupted")
        sys.exit(130)
    except SystemExit as ended:
        if ended.code == _TERMINATED:
            _say("idm-ray: terminated")
        raise
    sys.exit(0)


def _complain(error: click.ClickException | IdmRayError | OSError) -> None:
    """Say in one line what was wrong, after the traceback if that was asked for."""
    if "--debug" in sys.argv:
        _say(hide_passwords("".join(traceback.format_exception(error)).rstrip()))
    _say(f"idm-ray: {hide_passwords(' '.join(_text_of(error).split()))}")


def _text_of(error: click.ClickException | IdmRayError | OSError) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.filename is not None:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room first" if is_full else "check the path and its permissions"
        return f"expected to read or write {error.filename}, found: {error.strerror}; {remedy}"
    return str(error)


def _say(text: str) -> None:
    """Write a line to standard error; if that is a file on a full disk, only the status tells."""
    try:
        print(last_line(text), file=sys.stderr, flush=True)
    except OSError:
        # Python would try once more as it ends, and change the status.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 -- open to the end


def _terminated(signum: int, frame: object) -> None:
    # Prints nothing: the signal may have come in the middle of a print.
    _leave_soon("terminated", _TERMINATED)
    interruption.end(SystemExit(_TERMINATED))


def _interrupted(signum: int, frame: object) -> None:
    _leave_soon("interrupted", 128 + signum)
    interruption.end(KeyboardInterrupt())


def _leave_soon(how: str, status: int) -> None:
    """Leave without cleaning up if cleaning up takes too long.

    A signal may come in the middle of a call into Ray, whose shutdown then sometimes never returns.
    """

    def leave() -> None:
        _say(f"idm-ray: {how}")
        os._exit(status)

    timer = threading.Timer(_CLEANING_UP * interruption.patience_s(), leave)
    timer.daemon = True
    timer.start()
