"""The options of `idm-ray tune`, and what is done with them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from idm_ray.config import option_names
from idm_ray.config_file import NOT_OF_THE_CONFIG, config_file_option, given_options
from idm_ray.errors import UserError
from idm_ray.options import config_options
from idm_ray.showing import keep_result, log_format_option, make_listener, result_options

# What a search decides for its runs.
_DECIDED = ("local", "eval_split", "eval_interval", "eval_at", "baselines", "whole_epochs")
_OF_DRAWING = ("budget", "searcher", "early_stopping")
_OWN = ("search", "values", "gpus_per_trial", "log", "out", "resume")

_DEFAULT_SEARCH = ("lambda_reg",)

_OPTIONS = (
    click.option(
        "--search",
        multiple=True,
        help="What to vary: a name of --list, or a YAML file of options with a list of values "
        "each; may be given several times. [lambda_reg]",
    ),
    click.option("--values", help="Values of the one option that --search names, with commas."),
    click.option("--seeds", type=click.IntRange(min=1), help="Runs of each value. [2]"),
    click.option(
        "--budget",
        help="Draw settings instead of trying a grid: 20, so many trials, or 90m or 2h.",
    ),
    click.option(
        "--searcher",
        type=click.Choice(["tpe", "random"]),
        help="How settings are drawn: near the best so far, or at random. [tpe]",
    ),
    click.option(
        "--early-stopping",
        type=click.Choice(["on", "off"]),
        help="Stop drawn trials that are worse than two thirds of the others. [on]",
    ),
    click.option("--list", "listing", is_flag=True, help="Show the named searches, and run none."),
    click.option("--gpus-per-trial", type=float, help="GPUs that a trial's processes share."),
    click.option(
        "--log",
        type=click.Choice(["mlflow", "wandb"]),
        multiple=True,
        help="Tell MLflow or Weights & Biases, too; may be given twice.",
    ),
    click.option("--out", type=click.Path(), help="Folder of the search: a path or a URI."),
    click.option(
        "--resume",
        type=click.Choice(["never", "auto"]),
        default="never",
        help="auto: go on with the search that --out holds, if there is one. [never]",
    ),
    log_format_option,
    result_options,
    config_file_option,
    config_options({*option_names()} - {*_DECIDED}),
)


def search_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `tune`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_search(config_file: Path | None, given: Mapping[str, Any]) -> None:
    """Run a search as the command line asks for it, or list what there is; show what is found.

    Args:
        config_file: of options; those of the command line win.
        given: values of all of `search_options`.
    """
    given = dict(given)
    listing, seeds = given.pop("listing"), given.pop("seeds")
    own = {name: given.pop(name) for name in _OWN}
    own["search"] = own["search"] or _DEFAULT_SEARCH
    drawing = {name: value for name in _OF_DRAWING if (value := given.pop(name)) is not None}
    if drawing and "budget" not in drawing:
        name = next(iter(drawing)).replace("_", "-")
        raise UserError(f"expected --budget with --{name}, which says how settings are drawn")
    if drawing and seeds is not None:
        raise UserError(
            "expected --seeds or --budget, got both: drawn settings are tried once each, with "
            "--seed; leave one out"
        )
    options = given_options(config_file, given)
    for name in NOT_OF_THE_CONFIG:
        options.pop(name, None)
    from idm_ray.tables.searches import searches_table, tuned_tables  # noqa: PLC0415 -- torch is imported
    from idm_ray.tuning.conclusion import SUMMARY  # noqa: PLC0415
    from idm_ray.tuning.request import DEFAULT_SEEDS, Ablation, Drawing  # noqa: PLC0415
    from idm_ray.tuning.tune import listed, tune  # noqa: PLC0415

    shown = make_listener()
    if listing:
        shown.show(searches_table(listed(**options)))
        return
    how = Drawing(**drawing) if drawing else Ablation(seeds=seeds or DEFAULT_SEEDS)
    try:
        found = tune(how=how, listener=shown, **own, **options)
    finally:
        shown.close()
    for table in tuned_tables(found):
        shown.show(table)
    keep_result(json.loads((found.folder / SUMMARY).read_bytes()))
