"""How a command tells what happens: to people on a terminal, or to machines as lines of JSON."""

import logging
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from idm_ray.json_log import JsonLog
    from idm_ray.terminal import Terminal

# Of this process, if it writes JSON; whatever ends the process is told there, too.
_log: "JsonLog | None" = None


def _begin(context: click.Context, option: click.Parameter, log_format: str | None) -> None:
    """Before the other options are looked at: what is wrong with them is told as asked for."""
    global _log  # noqa: PLW0603 -- standard error is global to the process
    _log = None
    if log_format == "json":
        from idm_ray.json_log import JsonLog, RecordsAsJson  # noqa: PLC0415 -- heavy

        logging.getLogger().handlers = [RecordsAsJson()]
        _log = JsonLog()


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="IDM_RAY_LOG_FORMAT",
    is_eager=True,
    expose_value=False,
    callback=_begin,
    help="json: a line of JSON on standard error for each thing that happens. "
    "[IDM_RAY_LOG_FORMAT, or text]",
)


def make_listener() -> "Terminal | JsonLog":
    """Whoever is told what happens, as --log-format says."""
    if _log is not None:
        return _log
    from idm_ray.terminal import Terminal  # noqa: PLC0415 -- heavy

    return Terminal()


def last_line(text: str) -> str:
    """The line of a command that ends before its work is done, as those before it were."""
    return text if _log is None else _log.last_line(text)
