"""How a command tells what happens and what came of it: to people, or to machines as JSON."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from idm_ray.errors import UserError

if TYPE_CHECKING:
    from idm_ray.execution import Finished, Listener
    from idm_ray.json_log import JsonLog
    from idm_ray.terminal import Terminal

Command = TypeVar("Command", bound=Callable[..., Any])

_STANDARD_OUTPUT = Path("-")


@dataclass
class _Showing:
    """What the user asked for."""

    log: "JsonLog | None" = None
    quiet: bool = False
    json_file: Path | None = None


# Of this process: whatever ends it is told as was asked for, too.
_showing = _Showing()


def _set_log_format(context: click.Context, option: click.Parameter, value: str | None) -> None:
    """Before the other options are looked at: what is wrong with them is told as asked for."""
    _showing.log = None
    if value == "json":
        from idm_ray.json_log import JsonLog, RecordsAsJson  # noqa: PLC0415 -- heavy

        logging.getLogger().handlers = [RecordsAsJson()]
        _showing.log = JsonLog()


def _set_quiet(context: click.Context, option: click.Parameter, value: bool) -> None:
    _showing.quiet = value


def _set_json(context: click.Context, option: click.Parameter, value: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    _showing.json_file = value
    if value is None or value == _STANDARD_OUTPUT:
        return
    if value.is_dir():
        raise UserError(f"expected a file for --json, got the folder {value}; name a file in it")
    if not value.absolute().parent.is_dir():
        raise UserError(f"expected a folder for --json {value}, found none; create it first")


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="IDM_RAY_LOG_FORMAT",
    is_eager=True,
    expose_value=False,
    callback=_set_log_format,
    help="json: a line of JSON on standard error for each thing that happens. "
    "[IDM_RAY_LOG_FORMAT, or text]",
)
_quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=_set_quiet,
    help="Tell nothing but warnings and the result.",
)
_json_option = click.option(
    "--json",
    type=click.Path(path_type=Path),
    expose_value=False,
    callback=_set_json,
    help="Write the result to this file as JSON; -: to standard output, instead of a table.",
)


def result_options(command: Command) -> Command:
    """The options of a command that shows a result."""
    return _quiet_option(_json_option(command))


def make_terminal() -> "Terminal":
    """Whoever shows people what happens."""
    from rich.console import Console  # noqa: PLC0415 -- heavy

    from idm_ray.terminal import Terminal  # noqa: PLC0415 -- heavy

    results = Console(highlight=False, quiet=_showing.json_file == _STANDARD_OUTPUT)
    return Terminal(results=results, quiet=_showing.quiet)


def make_listener() -> "Terminal | JsonLog":
    """Whoever is told what happens, as --log-format says."""
    return make_terminal() if _showing.log is None else _showing.log


def keep_result(content: Mapping[str, Any]) -> None:
    """Write what a command found where --json says, if it says so.

    Raises:
        OSError: the file cannot be written.
    """
    from idm_ray.results.atomic import write_json  # noqa: PLC0415 -- a command may need none

    if _showing.json_file == _STANDARD_OUTPUT:
        print(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False))
    elif _showing.json_file is not None:
        write_json(_showing.json_file, content)


def show_run(run: "Callable[[Listener], Finished]") -> None:
    """Show a run while it goes on, and keep its result."""
    shown = make_listener()
    try:
        finished = run(shown)
    finally:
        shown.close()
    keep_result({"folder": str(finished.folder), **finished.summary})


def last_line(text: str) -> str:
    """The line of a command that ends before its work is done, as those before it were."""
    return text if _showing.log is None else _showing.log.last_line(text)
