"""The command line in a process of its own, which tells what happens in its run."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The command line with a second listener beside its terminal.
PROGRAM = """
import dataclasses, json
from idm_ray import cli, terminal

class Telling(terminal.Terminal):
    def __call__(self, event):
        told = {"kind": type(event).__name__}
        for name in ("text", "iteration", "total", "what"):
            if hasattr(event, name):
                told[name] = getattr(event, name)
        print("EVENT", json.dumps(told), flush=True)
        super().__call__(event)

terminal.Terminal = Telling
cli.main()
"""


@dataclasses.dataclass(frozen=True)
class Event:
    """What was told of an event; what it does not have is empty."""

    kind: str
    text: str = ""
    iteration: int = 0
    total: int = 0
    what: str = ""

    @property
    def places(self):
        """Process ids by name, where processes are announced."""
        found = re.findall(r"(class actor \d+|model queue): node \d+, pid (\d+)", self.text)
        return {name: int(pid) for name, pid in found}

    def __str__(self):
        """As it is shown in a log."""
        return " ".join(map(str, filter(None, dataclasses.astuple(self))))


class Driver:
    """A command that is running.

    Args:
        words: of the command line.
        address: of the cluster.
        log: file that what it says to people is appended to.
    """

    def __init__(self, *words, address, log):
        with open(log, "a") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, words)],
                cwd=ROOT,
                env={**os.environ, "RAY_ADDRESS": address},
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def events(self):
        """What it tells, until it ends."""
        with self.process:
            for line in self.process.stdout:
                if line.startswith("EVENT "):
                    yield Event(**json.loads(line.removeprefix("EVENT ")))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.wait()
