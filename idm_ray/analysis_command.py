"""The options of `idm-ray analyse`, and what is done with them."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import click

from idm_ray import interruption
from idm_ray.analysis.settings import DEFAULT_EPOCHS, DEFAULT_K, OPTIONS
from idm_ray.checks import wrong
from idm_ray.errors import UserError
from idm_ray.options import config_options
from idm_ray.showing import keep_result, make_terminal, result_options

_OPTIONS = (
    click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path()),
    click.option(
        "--k",
        help="Numbers of nearest real images, with commas. "
        f"[{','.join(map(str, DEFAULT_K))}, as far as every class has so many]",
    ),
    click.option(
        "--network",
        help="Whose features are compared: convnet-DEPTH, alexnet, vgg11, resnet18 or "
        "resnet18-ap. [the sets' own]",
    ),
    click.option(
        "--feature-epochs",
        type=click.IntRange(min=0),
        default=DEFAULT_EPOCHS,
        help="How long it is trained on all real training images; 0: not at all. "
        f"[{DEFAULT_EPOCHS}]",
    ),
    click.option("--out", type=click.Path(), required=True, help="New folder: a path or a URI."),
    click.option("--overwrite", is_flag=True, help="Replace an earlier analysis in --out."),
    result_options,
    config_options(OPTIONS),
)


def analysis_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `analyse`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_analysis(given: Mapping[str, Any]) -> None:
    """Analyse sets as the command line asks for it, and show what is found.

    Args:
        given: values of all of `analysis_options`.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if "data" not in options:
        raise UserError("expected --data SOURCE, whose images the sets were made of; got none")
    if "k" in options:
        options["k"] = _numbers(options["k"])
    from idm_ray.analysis.analyse import analyse  # noqa: PLC0415 -- torch is imported here
    from idm_ray.tables.experiments import analysis_table  # noqa: PLC0415

    terminal = make_terminal()
    try:
        with interruption.undisguised():
            found = analyse(listener=terminal, **options)
    finally:
        terminal.close()
    terminal.show(analysis_table(found))
    keep_result(dataclasses.asdict(found))


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise wrong("k", text, "numbers of neighbours such as 1,5,10")
    return tuple(map(int, parts))
