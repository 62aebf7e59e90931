"""Runs as processes of their own, ended at chosen moments and gone on with, for the tests here."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.storage import Location
from tests.making_runs import TINY, as_words, pixels

PROGRAM = (sys.executable, "-m", "idm_ray.cli")
ROOT = Path(__file__).parent.parent

INTERVAL = 5
# Long enough that a signal finds it in every part: condensing, copies evaluated on the way,
# evaluation at the end.
SETTINGS = {name: value for name, value in TINY.items() if name != "local"} | {
    "iterations": 40,
    "checkpoint_interval": INTERVAL,
    "eval_interval": 15,
    "repeats": 2,
    "eval_epochs": 20,
    "whole_epochs": 1,
}
LOCAL = {"local": True}
RAY = {"actors": 2}

SUBJECTS = ("evaluation", "start", "random", "whole")


@dataclass(frozen=True)
class Ended:
    """How a process ended, what it wrote to standard error, and seconds since it was told to."""

    status: int
    err: str
    seconds: float


class Started:
    """A process that works on a run, in a process group of its own.

    Args:
        folder: of the run.
        words: the command line after the program.
        program: what is started.
    """

    def __init__(self, folder, *words, program=PROGRAM):
        self.folder = Path(folder)
        self._err = self.folder.with_name(f"{self.folder.name}.{time.monotonic_ns()}.err")
        # Its Ray is to be its own, whatever this process is connected to.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment["RAY_TMPDIR"] = "/tmp"  # whatever TMPDIR says: paths of sockets are short
        # A shell's background jobs ignore Ctrl-C, and so would what this process starts.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with open(self._err, "wb") as err:
                self.process = subprocess.Popen(
                    [*program, *map(str, words)],
                    stdout=subprocess.DEVNULL,
                    stderr=err,
                    env=environment,
                    cwd=ROOT,
                    start_new_session=True,
                )
        finally:
            signal.signal(signal.SIGINT, before)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.kill()

    def until(self, condition, within_s=120.0):
        """Wait until something is so; whether it is, and not the process over before."""
        deadline = time.monotonic() + within_s
        while not condition():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.002)
                return False
            assert time.monotonic() < deadline, self.err
        return True

    def tell(self, *numbers):
        """Send signals to the process alone, and wait for its end."""
        began = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
        return self.end(began)

    def kill(self):
        """End all its processes at once, as a power cut would, unless it has ended by itself."""
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.end(began)

    def end(self, began=0.0):
        """Wait for its end."""
        status = self.process.wait(timeout=300)
        return Ended(status, self.err, time.monotonic() - began)

    @property
    def err(self):
        """What it has written to standard error so far."""
        return self._err.read_text()


def condensing(folder, *words, **options):
    """Start a run."""
    given = as_words(**{**SETTINGS, **options})
    return Started(folder, "condense", "--out", folder, "--resume", "auto", *given, *words)


def resuming(folder, *words):
    """Go on with one."""
    return Started(folder, "resume", folder, *words)


def reports(folder):
    """The lines that a run has logged, but for a part of a line that is being written."""
    with contextlib.suppress(FileNotFoundError):
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]
    return []


def iteration(folder):
    """Iterations that a run has reported."""
    return max((line["iteration"] for line in reports(folder) if "waiting" in line), default=0)


def commit(folder):
    """The newest commit of a run; None without one."""
    found = CheckpointFolder(Location.at(folder / "checkpoints")).commits()
    return found[0] if found else None


def results(folder):
    """What has to be the same however a run came to its end: pixels and accuracies."""
    summary = json.loads((folder / "summary.json").read_text())
    accuracies = {name: summary[name] and summary[name]["accuracies"] for name in SUBJECTS}
    return pixels(folder).tobytes(), accuracies
