"""All methods by name: `idm_ray.config.METHODS` lists them, a module of this package has each."""

import functools
import importlib

from idm_ray.checks import refuse_unknown
from idm_ray.config import METHODS, CondenseConfig
from idm_ray.methods.method import Matching, Method


@functools.cache
def find_method(name: str) -> Method:
    """A method by its name.

    Args:
        name: of `METHODS`; its module is called so, with underscores.

    Raises:
        UserError: there is none; the nearest is named.
    """
    refuse_unknown([name], METHODS, what="method")
    found: Method = importlib.import_module(f"{__package__}.{name.replace('-', '_')}").METHOD
    return found


def rounds_of(condense: CondenseConfig) -> int:
    """Steps of the images in an iteration.

    Args:
        condense: settled.
    """
    how = find_method(condense.method).how
    if not isinstance(how, Matching) or how.rounds is None:
        return 1
    assert isinstance(condense.outer_rounds, int), "the config is settled"
    return condense.outer_rounds
