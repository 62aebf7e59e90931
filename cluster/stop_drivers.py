"""Ends what runs on this head: SIGTERM to the drivers, and patience while they commit.

KubeRay deletes the pods of a cluster without stopping its job first, and Ray's own end of a head
kills the driver. So the head's pod runs this before anything else ends (`preStop`). It signals the
drivers rather than asking Ray to stop the jobs: a job that was stopped counts as done, one whose
driver ended by a signal has failed, and KubeRay tries that again, on another node.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path

# What Ray gives the processes of a submitted job, and no others.
OF_A_JOB = b"RAY_JOB_CONFIG_JSON_ENV_VAR="
TOLD_WITHIN_S = 15.0
SHELLS = ("bash", "dash", "sh")


def drivers(proc: Path) -> set[int]:
    """Ids of the processes that the running jobs began with, without the shells around them.

    A shell that is signalled dies at once; Ray then kills what it waits for.

    Args:
        proc: where the kernel tells of processes.
    """
    parents: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # gone, or somebody else's
            continue
        is_of_a_job = any(item.startswith(OF_A_JOB) for item in environment.split(b"\0"))
        if is_of_a_job and name not in SHELLS:
            parents[int(folder.name)] = int(rest.split()[1])
    return {pid for pid, parent in parents.items() if parent not in parents}


def stop(pids: Iterable[int], wait_s: float) -> bool:
    """Signal processes once and wait for their end.

    Args:
        pids: of the processes.
        wait_s: for how long.

    Returns:
        Whether all of them ended within `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    ends = select.poll()
    running = set()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            # Names this process, and none that gets its number later; readable when it has ended.
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            ends.register(handle, select.POLLIN)
            running.add(handle)
    while running:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        for handle, _ in ends.poll(1000 * left_s):
            ends.unregister(handle)
            running.remove(handle)
    return True


if __name__ == "__main__":
    if running := drivers(Path("/proc")):
        stop(running, float(os.environ.get("RAY_JOB_STOP_WAIT_TIME_S", "30")))
        # KubeRay asks every few seconds; of a head that is gone it never learns how the job ended.
        time.sleep(TOLD_WITHIN_S)
