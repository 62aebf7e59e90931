"""The command line: options are made from the config's dataclasses; nothing heavy is imported."""

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from idm_ray import __version__, interruption
from idm_ray.analysis_command import analysis_options, run_analysis
from idm_ray.bench.settings import DEFAULT_SETTING, ORCHESTRATION, SETTINGS
from idm_ray.compare_command import compare_options, run_compare
from idm_ray.config import DataConfig, MachineConfig, option_names
from idm_ray.config_file import NOT_OF_THE_CONFIG, config_file_option, given_options
from idm_ray.errors import UserError
from idm_ray.exits import run_and_exit
from idm_ray.formats.forms import FORMS
from idm_ray.options import GroupedCommand, config_options, part_names
from idm_ray.same_numbers import NEUTRAL_OPTIONS
from idm_ray.search_command import run_search, search_options
from idm_ray.showing import (
    keep_result,
    log_format_option,
    make_terminal,
    result_options,
    show_run,
)

if TYPE_CHECKING:
    from idm_ray.terminal import Terminal

_RESUME = ("never", "auto")

# Of a run that condenses; evaluating a file again takes no checkpoints.
_OF_A_RUN = ("placement", "checkpoint_interval", "max_failures", "hang_timeout_s")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="idm-ray")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors.")
def cli(debug: bool) -> None:
    """Condense a labelled image collection into a few synthetic images per class."""
    logging.basicConfig(
        format="%(message)s", level=logging.DEBUG if debug else logging.WARNING, stream=sys.stderr
    )


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of `condense`."""
    for option in (
        config_options(option_names()),
        result_options,
        config_file_option,
        click.option(
            "--resume",
            type=click.Choice(_RESUME),
            help="auto: go on with the unfinished run that --out holds, if there is one. [never]",
        ),
        click.option(
            "--overwrite",
            is_flag=True,
            default=None,
            help="Replace the run that --out holds.",
        ),
        # Text: a Path would take one of the slashes out of a URI.
        click.option("--out", type=click.Path(), help="Folder of the run: a path or a URI."),
    ):
        command = option(command)
    return command


@cli.command(cls=GroupedCommand)
@log_format_option
@run_options
def condense(config_file: Path | None, **given: Any) -> None:
    """Condense a data set, evaluate the result, and write both to a folder.

    Without options: the embedded handwritten digits, 1 image per class.
    """
    options = given_options(config_file, given)
    from idm_ray.run import condense as run  # noqa: PLC0415 -- torch is imported here

    show_run(lambda listener: run(listener=listener, **options))


@cli.command(cls=GroupedCommand)
@click.argument("folder", metavar="DIR", type=click.Path())
@log_format_option
@result_options
@config_options(NEUTRAL_OPTIONS)
def resume(folder: str, **given: Any) -> None:
    """Go on with the interrupted run in DIR, a path or a URI, to the end that it would have had.

    Options that change its numbers are those it was begun with; it may be computed elsewhere.
    """
    options = {name: value for name, value in given.items() if value is not None}
    from idm_ray.run import resume as run  # noqa: PLC0415 -- torch is imported here

    show_run(lambda listener: run(folder, listener=listener, **options))


@cli.command(cls=GroupedCommand)
@click.argument("file", type=click.Path())
@click.option(
    "--networks",
    help="Comma-separated, such as convnet-3,convnet-3-batch,vgg11,torchvision/resnet50. "
    "[the set's own]",
)
@result_options
@config_options(
    {
        *part_names(DataConfig, MachineConfig),
        *("protocol", "repeats", "eval_epochs", "eval_split", "seed"),
    }
    - {*_OF_A_RUN}
)
def evaluate(file: str, networks: str | None, data: str | None, **given: Any) -> None:
    """Train fresh networks on the condensed set FILE and test them on real images.

    FILE is a path or a URI.
    """
    if data is None:
        raise UserError("expected --data SOURCE, whose test images the set is tested on; got none")
    options = {name: value for name, value in given.items() if value is not None}
    from idm_ray.evaluation import evaluate as run  # noqa: PLC0415 -- torch is imported here
    from idm_ray.tables.sets import evaluation_table  # noqa: PLC0415

    terminal = make_terminal()
    try:
        with interruption.undisguised():
            found = run(
                file,
                data=data,
                networks=networks or (),
                listener=terminal,
                **options,
            )
    finally:
        terminal.close()
    terminal.show(evaluation_table(found))
    keep_result(dataclasses.asdict(found))


@cli.command(cls=GroupedCommand)
@analysis_options
def analyse(**given: Any) -> None:
    """Compare the features of condensed sets with those of the real images they were made of.

    For each synthetic image, or each of its tiles: how many of the k nearest real training images
    have its class. Each FILE is a path or a URI, as for `evaluate`.
    """
    run_analysis(given)


@cli.command(cls=GroupedCommand)
@click.argument("file", type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    help="Class folders of PNG files, WebDataset tars, or one file for torch or NumPy. [what "
    "--out ends in, or folder]",
)
@click.option("--out", type=click.Path(), required=True, help="New file or folder: path or URI.")
@click.option("--expand", is_flag=True, help="Cut images into their tiles, enlarged for training.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier export wrote to --out.")
@result_options
def export(file: str, **options: Any) -> None:
    """Write the condensed set FILE in another form, for those who have no idm_ray.

    FILE is a path or a URI: of a condensed.parquet, of the folder of its run, or of what an export
    wrote. Every form says how to train on it, and `evaluate` and idm_ray.load take each of them.
    """
    from idm_ray.formats.export import export as run  # noqa: PLC0415 -- torch is imported here
    from idm_ray.tables.sets import exported_text  # noqa: PLC0415

    found = run(file, **options)
    make_terminal().show(exported_text(found))
    keep_result(dataclasses.asdict(found))


@cli.command(cls=GroupedCommand)
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--out", type=click.Path(), help="New .html file: path or URI. [DIR/report.html]")
@click.option("--overwrite", is_flag=True, help="Replace an earlier page in --out.")
@click.option("--data", help="Where the images that a run was made of are now. [where they were]")
@click.option(
    "--no-neighbours",
    "neighbours",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Do not open the data of a run to show the training images nearest to its own.",
)
@result_options
def report(folder: str, **options: Any) -> None:
    """Write a page about the run, the search or the comparison in DIR, a path or a URI.

    One HTML file that needs no others and loads nothing: results, curves, images class by class,
    the nearest real ones, how all was made, and how to use it.
    """
    from idm_ray.page.writing import write_report  # noqa: PLC0415 -- heavy libraries
    from idm_ray.tables.sets import report_text  # noqa: PLC0415 -- torch is imported here

    written = write_report(folder, **options)
    make_terminal().show(report_text(written))
    keep_result(dataclasses.asdict(written))


@cli.command(cls=GroupedCommand)
@click.argument("source")
@click.option("--out", required=True, help="New folder of the shards, or a URI.")
@click.option(
    "--shard-mb",
    type=float,
    default=256.0,
    show_default=True,
    help="Largest size of a shard, in millions of bytes.",
)
@click.option("--overwrite", is_flag=True, help="Replace the shards that --out holds.")
@result_options
@config_options(
    [
        "size",
        "label_column",
        "classes",
        "test_fraction",
        "limit_per_class",
        "strict",
        "data_root",
        "cache_dir",
        "local",
    ]
)
def shards(source: str, out: str, shard_mb: float, overwrite: bool, **given: Any) -> None:
    """Write the images of SOURCE as WebDataset shards, each of one class, with their index.

    Encoded images are kept as they are, unless --size asks for resizing. Writing that was
    interrupted goes on where it was when the command is given again.
    """
    options = {name: value for name, value in given.items() if value is not None}
    from idm_ray.sharding import write_shards  # noqa: PLC0415 -- torch is imported here
    from idm_ray.storage import shown  # noqa: PLC0415
    from idm_ray.tables.sets import shards_table  # noqa: PLC0415

    terminal = make_terminal()
    began = time.monotonic()
    try:
        manifest = write_shards(
            source, out=out, shard_mb=shard_mb, overwrite=overwrite, listener=terminal, **options
        )
    finally:
        terminal.close()
    terminal.show(shards_table(manifest, out, time.monotonic() - began))
    keep_result(
        {
            "out": shown(out),
            "class_names": manifest.class_names,
            "train": [record.images for record in manifest.train],
            "test": [record.images for record in manifest.test],
            "shards": len(manifest.shards),
            "bytes": sum(shard.size for shard in manifest.shards),
            "skipped": manifest.skipped,
            "problems": manifest.problems,
        }
    )


@cli.command(cls=GroupedCommand)
@click.option(
    "--setting",
    "settings",
    type=click.Choice([*SETTINGS, ORCHESTRATION, "all"]),
    multiple=True,
    default=[DEFAULT_SETTING],
    help=f"What to run; may be given several times. [{DEFAULT_SETTING}]",
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, help="How often each is timed. [3]"
)
@result_options
@config_options(["device", "precision", "compile", "threads"])
def bench(settings: tuple[str, ...], rounds: int, **given: Any) -> None:
    """Time an iteration against Algorithm 1 as published, in turns on random images.

    --precision and --compile hold for our side; the published one is float32, uncompiled. The
    setting orchestration is another thing: what an iteration costs on Ray when nothing is
    computed, against class actors, classes, and iterations per call.
    """
    machine = {name: value for name, value in given.items() if value is not None}

    terminal = make_terminal()
    found: dict[str, Any] = {}
    if settings == (ORCHESTRATION,) and machine:
        names = ", ".join(f"--{name}" for name in machine)
        raise UserError(f"setting {ORCHESTRATION} computes nothing and takes no {names}")
    try:
        for name in [*SETTINGS, ORCHESTRATION] if "all" in settings else dict.fromkeys(settings):
            if name == ORCHESTRATION:
                found[name] = _bench_orchestration(terminal)
            else:
                found[name] = _bench_iteration(name, machine, rounds, terminal)
    finally:
        keep_result(found)  # what is there, should the rest be interrupted


def _bench_iteration(
    name: str, machine: Mapping[str, Any], rounds: int, terminal: "Terminal"
) -> dict[str, Any]:
    from idm_ray.bench.compare import compare  # noqa: PLC0415 -- torch is imported here
    from idm_ray.tables.costs import bench_table  # noqa: PLC0415

    comparison = compare(SETTINGS[name], machine, rounds=rounds, listener=terminal)
    terminal.show(bench_table(comparison))
    return dataclasses.asdict(comparison)


def _bench_orchestration(terminal: "Terminal") -> list[dict[str, Any]]:
    from idm_ray.runtime.orchestration import measure  # noqa: PLC0415 -- Ray is imported here
    from idm_ray.tables.costs import orchestration_table  # noqa: PLC0415

    rows = [dataclasses.asdict(cost) for cost in measure()]
    terminal.show(orchestration_table(rows))
    return rows


@cli.command(cls=GroupedCommand)
@search_options
def tune(config_file: Path | None, **given: Any) -> None:
    """Repeat a run with other settings, compare them on validation images, and draw the figure.

    Without options: the weight of the regularization, on the embedded handwritten digits. The
    settings that are best are tested on the test images, once, at the end.
    """
    run_search(config_file, given)


@cli.command(cls=GroupedCommand)
@compare_options
def compare(config_file: Path | None, **given: Any) -> None:
    """Make the sets of several methods, train the same networks on each, and print the table.

    What --out holds already is not computed again: the same command goes on where it was
    interrupted, and one that asks for more adds to the table.
    """
    run_compare(config_file, given)


@cli.command(cls=GroupedCommand)
@click.option("--gpus", type=int, help="Tell the same for so many GPUs as well.")
@click.option("--probe-s", type=float, default=20.0, show_default=True, help="How long to measure.")
@run_options
def estimate(gpus: int | None, probe_s: float, config_file: Path | None, **given: Any) -> None:
    """Say what `condense` with these options would take, from a short probe of its parts.

    Time, memory, storage and arithmetic. Nothing is written to --out.
    """
    options = given_options(config_file, given)
    for name in NOT_OF_THE_CONFIG:
        options.pop(name, None)
    from idm_ray.estimation.estimate import estimate as run  # noqa: PLC0415 -- torch is imported here
    from idm_ray.tables.costs import estimate_table  # noqa: PLC0415

    terminal = make_terminal()
    try:
        found = run(gpus=gpus, probe_s=probe_s, listener=terminal, **options)
    finally:
        terminal.close()
    terminal.show(estimate_table(found))
    keep_result(dataclasses.asdict(found))


def main(command: click.Command = cli) -> NoReturn:
    """Run the command line and exit, as `exits.run_and_exit` says."""
    run_and_exit(command)


if __name__ == "__main__":
    main()
