"""Values of options that were written as text: on a command line, in a file, in a list."""

from typing import Any

from idm_ray.checks import alternatives, describe_type
from idm_ray.config import option_types
from idm_ray.errors import UserError


def convert_text(name: str, text: str, shown: str | None = None) -> Any:
    """Turn an option's text into what its annotation allows; ranges are the config's business.

    Raises:
        UserError: it allows nothing of this kind.
    """
    hint = option_types()[name]
    for allowed in alternatives(hint):
        if allowed in (int, float):
            try:
                return allowed(text)
            except ValueError:
                continue
        if allowed is str or text == allowed:
            return text
    raise UserError(f"{shown or name} must be {describe_type(hint)}, got {text!r}")
