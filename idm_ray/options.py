"""Click options made from the config's dataclasses: the config is the only list of options."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from types import NoneType
from typing import Any, TypeVar

import click
import docstring_parser

from idm_ray.checks import alternatives
from idm_ray.config import PARTS, option_types
from idm_ray.option_text import convert_text

RECIPE_HELP = "Named settings; auto recognises the data (docs/settings.md lists them)."
OWN_HEADING = "This command"

Command = TypeVar("Command", bound=Callable[..., Any] | click.Command)


class GroupedCommand(click.Command):
    """A command whose help shows options under the headings of the config's parts."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per part, then the command's own options."""
        of_part = {_flag(f.name): part for part in PARTS.values() for f in dataclasses.fields(part)}
        sections: dict[str, list[tuple[str, str]]] = {OWN_HEADING: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                part = of_part.get(param.opts[0])
                sections.setdefault(_heading(part) if part else OWN_HEADING, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def config_options(names: Iterable[str]) -> Callable[[Command], Command]:
    """A decorator that gives a command some options of the config.

    Args:
        names: flat names; each option is None unless the user gives it.
    """
    wanted = frozenset(names)

    def decorate(command: Command) -> Command:
        for name, text, default, hint in reversed(_DESCRIBED):
            if name in wanted:
                command = _option(name, text, default, hint)(command)
        return command

    return decorate


def part_names(*parts: type) -> tuple[str, ...]:
    """Flat names of all options of some parts of the config."""
    return tuple(field.name for part in parts for field in dataclasses.fields(part))


def _option(name: str, text: str, default: Any, hint: Any) -> Callable[[Command], Command]:
    if hint is bool:
        return click.option(_flag(name), name, is_flag=True, default=None, help=text)
    shown = text if default is None else f"{text} [{default}]"
    return click.option(_flag(name), name, callback=_convert, metavar=value_text(hint), help=shown)


def describe_options() -> Iterator[tuple[str, str, Any, Any]]:
    """Name, help, default and annotation of each option, from the config's dataclasses."""
    hints = option_types()
    yield "recipe", RECIPE_HELP, "auto", str
    for part in PARTS.values():
        documented = docstring_parser.parse_from_object(part)
        helps = {p.arg_name: p.description or "" for p in documented.params}
        for field in dataclasses.fields(part):
            yield field.name, " ".join(helps[field.name].split()), field.default, hints[field.name]


def _convert(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    return None if text is None else convert_text(str(param.name), text, param.opts[0])


def value_text(hint: Any) -> str:
    """What an option of this type takes, such as INT|auto."""
    names = (
        {int: "INT", float: "NUMBER", str: "TEXT"}.get(a, str(a))
        for a in alternatives(hint)
        if a is not NoneType
    )
    return "|".join(names)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _heading(part: type) -> str:
    return (part.__doc__ or "").splitlines()[0].rstrip(".")


_DESCRIBED = tuple(describe_options())
