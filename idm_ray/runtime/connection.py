"""Connects to Ray: an existing cluster where one is named, else one of this machine's own."""

import logging
import re
import signal
import socket
import threading
import time
from typing import Any

import ray

from idm_ray import interruption
from idm_ray.errors import ActorLostError, IdmRayError, ResourceError
from idm_ray.host import num_cores
from idm_ray.runtime.environment import named_cluster

# It advises to switch off the very token that was set above.
logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)

CONNECT_TIMEOUT_S = 10.0

# How long a signal may have to wait; one in the middle of a call into Ray could leave it unusable.
SIGNALS_EVERY_S = 0.5

# Where Ray says, at the end of many lines, what became of an actor.
_BECAUSE = re.compile(r"The actor (?:is dead|died) because ([^.\n]+)")

# Whether this process runs a cluster of its own.
_STARTED_HERE = False

_LOGGING: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}


class InputLostError(ActorLostError):
    """What a call was to work on is lost; whoever was to carry it out need not be."""


def connect() -> bool:
    """Connect this process, unless it is connected already.

    `RAY_ADDRESS` (which `ray job submit` and KubeRay set) names a cluster; a cluster that merely
    happens to run on this machine is somebody else's and is left alone.

    Returns:
        Whether a cluster was started here, which then ends with this process.
    """
    interruption.hold()
    if ray.is_initialized():
        return _STARTED_HERE
    # Ray takes SIGTERM for itself; what this process wants done then stays its own affair.
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return _connect()
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _connect() -> bool:
    global _STARTED_HERE  # noqa: PLW0603 -- Ray itself is global to the process
    address = named_cluster()
    if address is None:
        # Ray itself would count all cores of the machine, not those that this process was given.
        ray.init(address="local", num_cpus=num_cores(), include_dashboard=False, **_LOGGING)
        _STARTED_HERE = True
        return True
    refusal = ResourceError(
        f"expected a Ray cluster at RAY_ADDRESS {address}, found none that answers; start it, "
        "correct the address, or unset RAY_ADDRESS to use this machine alone"
    )
    try:
        _knock(address)
        ray.init(**_LOGGING)
    except (OSError, ray.exceptions.RayError) as error:
        raise refusal from error
    return False


def _knock(address: str) -> None:
    """Open and close a connection; Ray would try for minutes where nobody listens.

    Raises:
        OSError: nobody answers at this host and port.
    """
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()


def wait(
    references: list[Any], *, num_returns: int = 1, timeout_s: float | None = None
) -> list[Any]:
    """Wait until so many of some calls are done, or the time is over.

    Returns:
        Those that are done, all of them.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        interruption.check()
        left_s = SIGNALS_EVERY_S
        if deadline is not None:
            left_s = min(left_s, max(0.0, deadline - time.monotonic()))
        # One may be done, or many: all are taken.
        done, _ = ray.wait(references, num_returns=len(references), timeout=0, fetch_local=False)
        if len(done) < num_returns and left_s:
            ray.wait(references, num_returns=num_returns, timeout=left_s, fetch_local=False)
            continue
        return list(done)


def fetch(references: Any) -> Any:
    """Fetch small results, of one call or of a list; errors of our own come out as themselves.

    Raises:
        IdmRayError, OSError: what the process raised.
        ActorLostError: the process is gone; as InputLostError, what it was to work on.
    """
    calls = references if isinstance(references, list) else [references]
    wait(calls, num_returns=len(calls))
    try:
        return ray.get(references)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ray.exceptions.RayError):
            raise InputLostError(cause_of(error.cause)) from error
        if isinstance(error.cause, IdmRayError | OSError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise ActorLostError(cause_of(error)) from error


def cause_of(error: BaseException) -> str:
    """What Ray knows of a loss, in a few words; its own text is many lines of where and when."""
    return f"{cause_in(str(error))} ({type(error).__name__})"


def cause_in(text: str) -> str:
    """The same from Ray's text alone."""
    because = _BECAUSE.search(text)
    return because[1] if because else text.strip().splitlines()[0]
