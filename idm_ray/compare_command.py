"""The options of `idm-ray compare`, and what is done with them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from idm_ray.comparison.request import SHARED, WHOLE_EPOCHS, parse_overrides
from idm_ray.config import METHODS
from idm_ray.config_file import config_file_option, given_options
from idm_ray.errors import UserError
from idm_ray.option_text import convert_text
from idm_ray.options import config_options
from idm_ray.showing import keep_result, log_format_option, make_listener, result_options

_LISTS = ("methods", "condense_networks", "networks")
_OPTIONS = (
    click.option(
        "--methods",
        default="random,dm,idm",
        show_default=True,
        help=f"Rows of the table, with commas: {', '.join(METHODS)}; whole: all real images.",
    ),
    click.option(
        "--ipc", default="1", show_default=True, help="Images per class, with commas: 1,10."
    ),
    click.option(
        "--seeds",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="Runs of each method, with seeds 0, 1, ...",
    ),
    click.option(
        "--condense-networks", help="Networks to condense with, with commas. [the recipe's]"
    ),
    click.option(
        "--networks",
        help="Networks to train on every set, with commas. [the one it was condensed with]",
    ),
    click.option(
        "--override",
        "overrides",
        multiple=True,
        metavar="METHOD[:IPC].OPTION=VALUE",
        help="Another value for one method, such as idm:10.iterations=300 or random.seeds=5; may "
        "be given several times.",
    ),
    click.option(
        "--whole-epochs",
        type=click.IntRange(min=1),
        default=WHOLE_EPOCHS,
        show_default=True,
        help="Epochs of the network that is trained on all real images.",
    ),
    click.option("--out", type=click.Path(), help="Folder of the comparison: a path or a URI."),
    log_format_option,
    result_options,
    config_file_option,
    config_options({*SHARED, "protocol", "repeats", "eval_epochs"}),
)


def compare_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `compare`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_compare(config_file: Path | None, given: Mapping[str, Any]) -> None:
    """Compare as the command line asks for it, and show what is found.

    Args:
        config_file: of options of the runs; those of the command line win.
        given: values of all of `compare_options`.
    """
    given = dict(given)
    overrides = parse_overrides(given.pop("overrides"), convert_text)
    asked: dict[str, Any] = {name: given.pop(name) for name in ("seeds", "whole_epochs", "out")}
    asked |= {name: _names(text) for name in _LISTS if (text := given.pop(name)) is not None}
    asked |= {"ipcs": _numbers(given.pop("ipc")), "overrides": overrides}
    # Of a run's config.yaml, what a comparison decides itself says nothing.
    from_file = given_options(config_file, {})
    asked["out"] = asked["out"] or from_file.get("out")
    shared = {name: value for name, value in from_file.items() if name in SHARED}
    options = shared | {name: value for name, value in given.items() if value is not None}
    from idm_ray.comparison.compare import compare  # noqa: PLC0415 -- torch is imported here
    from idm_ray.comparison.files import RESULTS  # noqa: PLC0415
    from idm_ray.tables.experiments import comparison_tables  # noqa: PLC0415

    shown = make_listener()
    try:
        found = compare(listener=shown, **asked, **options)
    finally:
        shown.close()
    for table in comparison_tables(found):
        shown.show(table)
    keep_result(json.loads((found.folder / RESULTS).read_bytes()))


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"--ipc must be whole numbers such as 1,10, got {text!r}") from None
