"""config.yaml of a run, read back to go on with the run; whoever began it says what is in it."""

from typing import Any, Final

import yaml

from idm_ray.config import RunConfig
from idm_ray.errors import UserError

# Of a run's folder as a whole. A higher one means that an older idm_ray cannot go on with the run.
FORMAT: Final = 1

_REMEDY: Final = "restore the file as the run wrote it, or begin a new run"


def parse_config(content: bytes, where: str) -> dict[str, Any]:
    """Read a configuration back, strictly.

    Args:
        content: of the file.
        where: it is, for messages.

    Returns:
        What was written; options that the run's version did not have yet are at their defaults.

    Raises:
        UserError: it is no YAML or was changed to what no run writes, or a newer version wrote it.
    """
    try:
        config = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"expected the YAML of a run in {where}: {reason}; {_REMEDY}") from error
    if not isinstance(config, dict):
        raise _broken(where, "a mapping", config)
    written = config.get("format", FORMAT)
    if not isinstance(written, int):
        raise _broken(where, "a whole number as format", written)
    if written > FORMAT:
        raise UserError(
            f"expected a run of format {FORMAT} or older in {where}, found format {written}: use "
            "a newer idm_ray, as the one that began it"
        )
    data = config.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("fingerprint"), str):
        raise _broken(where, "data with a fingerprint", data)
    return config | {"options": _options(config.get("options"), where)}


def _options(options: Any, where: str) -> dict[str, Any]:
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise _broken(where, "options as 'name: value' lines", options)
    try:
        return RunConfig.from_flat(options).flat()
    except UserError as error:
        raise UserError(f"expected the options of a run in {where}: {error}; {_REMEDY}") from error


def _broken(where: str, expected: str, found: object) -> UserError:
    return UserError(f"expected {expected} in {where}, found {found!r:.60}; {_REMEDY}")
