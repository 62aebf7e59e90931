"""A small disk, of a megabyte if nothing else is said, which only the started process sees."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o size="$0" tmpfs "$1" && shift && exec "$@"'
_ROOT = Path(__file__).parents[2]


def on_a_small_disk(folder, code, *words, size="1m"):
    """What a process prints that finds the disk, empty, in a folder: its first argument."""
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-c", _MOUNT, size, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of his own")
    command = [*inside, sys.executable, "-c", code, str(folder), *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT).stdout
