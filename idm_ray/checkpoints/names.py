"""What the files of a checkpoint folder are called; other files there belong to somebody else."""

import re
from typing import Final

from idm_ray.algorithm.state import VersionKey

# A number has one spelling only, so that no two names mean the same.
_SHORT, _LONG = (rf"(?:[0-9]{{{digits}}}|[1-9][0-9]{{{digits},}})" for digits in (4, 8))
_MARKER: Final = re.compile(rf"commit-({_LONG})\.json")
_ARRAYS: Final = re.compile(
    rf"(?:group-{_SHORT}-{_LONG}|model-{_LONG}-{_LONG}|pretrained-{_SHORT})\.safetensors"
)


def marker_name(number: int) -> str:
    """Name the file that makes a commit one."""
    return f"commit-{number:08d}.json"


def group_name(group: int, iteration: int) -> str:
    """Name the file of a group of classes before an iteration."""
    return f"group-{group:04d}-{iteration:08d}.safetensors"


def model_name(version: VersionKey) -> str:
    """Name the file of a network of the queue at some age."""
    model, age = version
    return f"model-{model:08d}-{age:08d}.safetensors"


def pretrained_name(member: int) -> str:
    """Name the file of a network of the pretrained set."""
    return f"pretrained-{member:04d}.safetensors"


def marker_number(name: str) -> int | None:
    """Return the number of the commit that a file marks; None if it is no marker."""
    found = _MARKER.fullmatch(name)
    return int(found[1]) if found else None


def is_own(name: str) -> bool:
    """Whether a file may be removed when no commit lists it."""
    return bool(_MARKER.fullmatch(name) or _ARRAYS.fullmatch(name))
