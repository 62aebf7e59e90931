"""The options of continual learning, and what is done with them."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from idm_ray.config import option_names
from idm_ray.config_file import config_file_option
from idm_ray.options import config_options
from idm_ray.showing import keep_result, log_format_option, make_listener, result_options

# What memories and networks have of their own.
_DECIDED = ("method", "eval_interval", "eval_at", "baselines", "whole_epochs")
# Options with other defaults than those of a run.
_OTHERWISE = ("ipc", "repeats", "partition")

_OPTIONS = (
    click.option(
        "--steps", type=click.IntRange(min=1), help="Steps in which the classes come. [5]"
    ),
    click.option(
        "--orders",
        type=click.IntRange(min=1),
        help="Class orders, of the seeds --seed, --seed + 1, ... [5]",
    ),
    click.option(
        "--methods", help="What makes the memories, with commas. [those of Fig. 8, and herding]"
    ),
    click.option("--ipc", type=int, help="Images of each class in memory. [20]"),
    click.option(
        "--repeats",
        "--networks-per-step",
        "repeats",
        type=int,
        help="Networks for each method, order and step. [3]",
    ),
    click.option(
        "--partition",
        type=int,
        help="Tiles per side in partitioning and expansion (l). [1]",
    ),
    # Text: a Path would take one of the slashes out of a URI.
    click.option(
        "--out",
        type=click.Path(),
        help="Folder of all files, a path or a URI; what it holds of the same goes on.",
    ),
    click.option("--overwrite", is_flag=True, default=None, help="Replace what --out holds of it."),
    log_format_option,
    result_options,
    config_file_option,
    config_options({*option_names()} - {*_DECIDED, *_OTHERWISE}),
)


def continual_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of continual learning."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_continual(given: Mapping[str, Any]) -> None:
    """Learn as the command line asks for it, and show what came of it.

    Args:
        given: values of `continual_options` and of a file; None where nothing is said.
    """
    options = {name: value for name, value in given.items() if value is not None}
    options.pop("resume", None)  # a file may say it; what is there goes on anyhow
    own = {name: options.pop(name) for name in ("out", "overwrite") if name in options}
    asked: dict[str, Any] = {n: options.pop(n) for n in ("steps", "orders") if n in options}
    from idm_ray.continual.course import Course, parse_methods  # noqa: PLC0415 -- heavy
    from idm_ray.continual.learning import learn  # noqa: PLC0415 -- torch is imported
    from idm_ray.continual.outcome import as_json  # noqa: PLC0415
    from idm_ray.tables.experiments import learned_table  # noqa: PLC0415

    if "methods" in options:
        asked["methods"] = parse_methods(options.pop("methods"))
    course = Course(**asked)
    shown = make_listener()
    try:
        learned = learn(course, listener=shown, **own, **options)
    finally:
        shown.close()
    shown.show(learned_table(learned))
    shown.show(f"tables and figure in {learned.folder}")
    keep_result(as_json(learned))
