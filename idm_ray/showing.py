"""How a command tells what happens and what came of it: to people, or to machines as JSON."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from idm_ray.checks import is_utf8
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
    if value is not None and value != _STANDARD_OUTPUT:
        _check_json_file(value)


def _check_json_file(path: Path) -> None:
    """Refuse a place where no result of a command may be written.

    Raises:
        UserError: a folder, no folder above it, or a file of something else.
    """
    if not is_utf8(str(path)):
        raise UserError(f"json must be a path in UTF-8, got {str(path)!r}")
    if path.is_dir():
        raise UserError(f"expected a file for --json, got the folder {path}; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UserError(f"expected a folder for --json {path}, found none; create it first")
    if path.is_file() and not _is_json(path):
        raise UserError(
            f"expected a new file or one of an earlier --json at {path}, found another; choose "
            "another name"
        )


def _is_json(path: Path) -> bool:
    """Whether a file holds one JSON object, or nothing."""
    try:
        content = path.read_bytes()
        return not content or isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


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
        UserError: the command has written something else there.
        OSError: the file cannot be written.
    """
    from idm_ray.results.atomic import write_json  # noqa: PLC0415 -- a command may need none

    if _showing.json_file == _STANDARD_OUTPUT:
        print(_as_text(content), end="")
    elif _showing.json_file is not None:
        # The command itself may have written something there.
        _check_json_file(_showing.json_file)
        if _showing.json_file.exists() and not _showing.json_file.is_file():  # a device or a pipe
            _showing.json_file.write_text(_as_text(content))
        else:
            write_json(_showing.json_file.resolve(), content)


def _as_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


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
