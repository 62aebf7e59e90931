"""Processes of a cluster, as the system sees them, and how to end them."""

import contextlib
import os
import signal
from pathlib import Path


def workers(session):
    """Titles of the workers of a cluster by process id; `session` is its folder.

    Other clusters of the machine are told apart by where their workers write.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(folder / "fd" / "2").startswith(f"{session}/logs/worker"):
                found[int(folder.name)] = (folder / "cmdline").read_text().rstrip("\0")
    return found


def titled(session, title):
    """Process ids of the workers with a title that begins so."""
    return [pid for pid, found in workers(session).items() if found.startswith(title)]


def strike(pid, number=signal.SIGKILL):
    """Send a signal; whether there was such a process that lived."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        os.kill(pid, number)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
