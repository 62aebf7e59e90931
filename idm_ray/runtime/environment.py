"""Settings that Ray reads from the environment when it is imported."""

import os
import secrets
import sys

_QUIET = {
    "RAY_TQDM_PATCH_PRINT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Writing down what trials tell takes a second on a busy machine, and nobody can help it.
    "TUNE_WARN_THRESHOLD_S": "30",
    # What is lost is told in this project's own words, in a line.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^(A worker died|Task .* failed. There are|Raylet is terminated"
    "|The node with node id)",
}


def named_cluster() -> str | None:
    """Address of the cluster that the environment names, if any."""
    address = os.environ.get("RAY_ADDRESS")
    return None if address in (None, "", "local") else address


def prepare_environment() -> None:
    """Settings that Ray reads when it is imported; what the user has set stays.

    A cluster of this process's own gets a token of its own, so that nobody else on the machine
    gets in. Left alone, Ray would keep one in the user's home, which changes how other clusters
    on this machine are reached. And it listens on the loopback interface alone, so that nobody
    outside of the machine gets as far as the token: what Ray does on macOS and Windows anyway.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if named_cluster() is not None or "ray" in sys.modules:
        return
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
