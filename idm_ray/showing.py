"""How a command tells what happens: to people on a terminal, or to machines as lines of JSON."""

import logging
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from idm_ray.json_log import JsonLog
    from idm_ray.terminal import Terminal

log_format_option = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="IDM_RAY_LOG_FORMAT",
    help="json: a line of JSON on standard error for each thing that happens. "
    "[IDM_RAY_LOG_FORMAT, or text]",
)


def make_listener(log_format: str | None) -> "Terminal | JsonLog":
    """Whoever is told what happens.

    Args:
        log_format: text or json; None for text.
    """
    if log_format == "json":
        from idm_ray.json_log import JsonLog, RecordsAsJson  # noqa: PLC0415 -- heavy

        logging.getLogger().handlers = [RecordsAsJson()]
        return JsonLog()
    from idm_ray.terminal import Terminal  # noqa: PLC0415

    return Terminal()
