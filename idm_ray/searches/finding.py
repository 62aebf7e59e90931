"""From what a user writes to a search: a name, an option with values, or a file of options."""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from idm_ray.checks import refuse_unknown
from idm_ray.config import CondenseConfig, QueueConfig
from idm_ray.errors import UserError
from idm_ray.option_text import convert_text
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.search import Axis, Choice, Point, Scale, Search, of_option, value_text

# What is asked for in another way: several seeds of every point, and the methods side by side.
_NOT_VARIED: Final = {
    "seed": "expected an option of the method to vary, got seed: every point runs with several "
    "seeds, give --seeds",
    "method": "expected an option of the method to vary, got method: use --search components",
}
_OPTIONS: Final = tuple(
    field.name for part in (CondenseConfig, QueueConfig) for field in dataclasses.fields(part)
)
_FILE_SUFFIXES: Final = (".yaml", ".yml")
# Values this far apart are shown by their order of magnitude.
_WIDE: Final = 8


def find(name: str) -> Search:
    """A search by its name, or out of a YAML file.

    Args:
        name: of `catalog.SEARCHES`, or a path that ends in .yaml or .yml.

    Raises:
        UserError: there is no such search, or the file cannot be used.
    """
    if name.endswith(_FILE_SUFFIXES):
        return from_file(name)
    if name in _OPTIONS and name not in SEARCHES:
        raise UserError(
            _NOT_VARIED.get(name)
            or f"expected values for {name}, which no named search varies; give --values, such as "
            f"--search {name} --values 1,2,4"
        )
    refuse_unknown([name], SEARCHES, what="search")
    return SEARCHES[name]


def with_values(name: str, values: str) -> Search:
    """A search over an option with values of the user's own.

    Args:
        name: flat name of an option of the condensation or the queue.
        values: with commas between them.

    Raises:
        UserError: no such option, or a value of another kind; whether values are in range is said
            by `Search.points`.
    """
    if name in SEARCHES and name not in _OPTIONS:
        raise UserError(
            f"expected an option for --values, got search {name}, which sets several; name one of "
            "them, or write a file of options"
        )
    _refuse_option(name)
    return _of_values(name, [convert_text(name, text.strip()) for text in values.split(",")])


def from_file(path: str | os.PathLike[str]) -> Search:
    """A search over all combinations of the values in a YAML file: lines `option: [value, ...]`.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    options = _read(Path(path))
    name = Path(path).stem
    if len(options) == 1:
        ((option, values),) = options.items()
        return dataclasses.replace(_of_values(option, values), name=name)
    points = tuple(
        _combination(dict(zip(options, values, strict=True)))
        for values in itertools.product(*options.values())
    )
    return Search(
        name=name,
        description=f"all combinations of {', '.join(options)}",
        varies=tuple(options),
        axis=Axis(label="settings", scale="bars"),
        grid=lambda config: points,
        space=lambda config: {
            option: Choice(values=tuple(values)) for option, values in options.items()
        },
    )


def _combination(options: Mapping[str, Any]) -> Point:
    label = ", ".join(f"{option} {value_text(value)}" for option, value in options.items())
    return Point(label=label, options=options)


def _of_values(option: str, values: list[Any]) -> Search:
    """A search over one option, described as the named one over it, if there is one."""
    named = SEARCHES.get(option)
    axis = named.axis if named else Axis(label=option, scale=_scale(values))
    return of_option(option, named.description if named else option, lambda config: values, axis)


def _scale(values: list[Any]) -> Scale:
    if not all(isinstance(value, int | float) for value in values):
        return "bars"
    return "log" if 0 < _WIDE * min(values) <= max(values) else "linear"


def _refuse_option(name: str) -> None:
    if name in _NOT_VARIED:
        raise UserError(_NOT_VARIED[name])
    refuse_unknown([name], _OPTIONS)


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"expected a YAML file of options at {path}: {reason}") from error
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"expected 'option: [value, ...]' lines in {path}, found {content!r:.60}; write one "
            "for each option to vary"
        )
    options: dict[str, list[Any]] = {}
    for key, values in content.items():
        option = str(key).replace("-", "_")
        _refuse_option(option)
        options[option] = _values(option, values, path)
    return options


def _values(option: str, values: Any, path: Path) -> list[Any]:
    plain = isinstance(values, list) and all(isinstance(v, str | int | float) for v in values)
    if not plain or not values:
        raise UserError(
            f"expected a list of values for {option} in {path}, found {values!r:.60}; write "
            f"'{option}: [value, ...]'"
        )
    # YAML takes 1e-3 for text.
    typed = [convert_text(option, v) if isinstance(v, str) else v for v in values]
    return list(dict.fromkeys(typed))
