"""A disk of a megabyte, which only the process that is started for it sees."""

import shutil
import subprocess
import sys

import pytest

_MOUNT = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'


def on_a_small_disk(folder, code, *words):
    """What a process prints that finds the disk, empty, in a folder: its first argument."""
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", _MOUNT, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of his own")
    command = [*inside, sys.executable, "-c", code, str(folder), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
