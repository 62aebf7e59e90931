"""Connects to Ray: an existing cluster where one is named, else one of this machine's own."""

import os

# Before Ray is imported, since it reads them at import; what the user has set stays.
_QUIET = {
    "RAY_TQDM_PATCH_PRINT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402 -- after the settings above


def connect() -> bool:
    """Connect this process, unless it is connected already.

    `RAY_ADDRESS` (which `ray job submit` and KubeRay set) names a cluster; a cluster that merely
    happens to run on this machine is somebody else's and is left alone.

    Returns:
        Whether a cluster was started here, which then ends with this process.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    if address in (None, "", "local"):
        # A cluster of this process alone listens on loopback and needs no token; Ray would leave
        # one in the user's home, which changes other clusters on this machine.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        ray.init(
            address="local", include_dashboard=False, logging_level="WARNING", log_to_driver=False
        )
        return True
    ray.init(logging_level="WARNING", log_to_driver=False)
    return False
