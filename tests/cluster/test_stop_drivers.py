"""The end of a head's pod: drivers are told, once and by themselves, and are waited for."""

import contextlib
import os
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cluster.manifests import ROOT

SCRIPT = ROOT / "cluster" / "stop_drivers.py"
OF_A_JOB = {**os.environ, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
# A driver that takes a while to commit, and a helper of its own that must not be told.
DRIVER = """
import signal, subprocess, sys, threading
waiting = [sys.executable, "-c", "print('up', flush=True); input()"]
helper = subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
helper.stdout.readline()
def commit(number, frame):
    threading.Event().wait({seconds})
    print("committed", "helper alive" if helper.poll() is None else "helper killed", flush=True)
    helper.kill()
    sys.exit(143)
signal.signal(signal.SIGTERM, commit)
print("ready", flush=True)
while True:
    signal.pause()
"""


class Head:
    """A head's processes: those that a test starts, and no others of this machine.

    Args:
        proc: a folder that shows them as /proc does.
    """

    def __init__(self, proc):
        self.proc = proc
        self._begun = []

    def start(self, *words, env=OF_A_JOB):
        process = subprocess.Popen(
            words,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._begun.append(process)
        assert process.stdout.readline() == "ready\n"
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(folder.name)) == process.pid:
                    (self.proc / folder.name).symlink_to(folder)
        return process

    def end(self):
        for process in self._begun:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def head(tmp_path):
    head = Head(tmp_path)
    yield head
    head.end()


@pytest.fixture(scope="module")
def program():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def driver(seconds):
    return sys.executable, "-c", DRIVER.format(seconds=seconds)


def test_drivers_commit_before_it_ends_and_their_helpers_live_until_then(head, program):
    alone = head.start(*driver(0.5))
    in_a_shell = head.start("sh", "-c", f"{shlex.join(driver(0.2))}; exit $?")
    waiting = "print('ready', flush=True); input()"
    other = head.start(sys.executable, "-c", waiting, env=dict(os.environ))
    assert program.stop(program.drivers(head.proc), 30)
    for ended in (alone, in_a_shell):
        assert ended.wait(5) == 143
        assert ended.stdout.read() == "committed helper alive\n"
    assert other.poll() is None


def test_it_does_not_wait_for_ever(head, program):
    head.start(*driver(30))
    began = time.monotonic()
    assert not program.stop(program.drivers(head.proc), 0.5)
    assert time.monotonic() - began < 10


def test_a_head_without_jobs_has_nobody_to_wait_for(head, program):
    assert program.drivers(head.proc) == set()
    assert program.stop([], 60)


@pytest.mark.ray
def test_drivers_are_known_by_what_ray_gives_them(program):
    constants = pytest.importorskip("ray._private.runtime_env.constants")
    assert f"{constants.RAY_JOB_CONFIG_JSON_ENV_VAR}=".encode() == program.OF_A_JOB
