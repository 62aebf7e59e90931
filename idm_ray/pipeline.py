"""What the scripts in pipelines/ share: the options of `condense`, --smoke, and images for it."""

import functools
import io
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from idm_ray.cli import main, run_options
from idm_ray.config_file import given_options
from idm_ray.continual_command import continual_options, run_continual
from idm_ray.data.manifest import MANIFEST_FILE
from idm_ray.data.shard_set import open_shards
from idm_ray.errors import UserError
from idm_ray.execution import Finished, Listener
from idm_ray.host import user_cache
from idm_ray.options import GroupedCommand
from idm_ray.progress import Announcement
from idm_ray.results.run_folder import next_free
from idm_ray.run import condense
from idm_ray.search_command import run_search, search_options
from idm_ray.sharding import write_shards
from idm_ray.showing import log_format_option, show_run
from idm_ray.storage import Location

SMOKE_CLASSES = ("bars", "rings", "checks", "waves", "slopes")
# A minute on a laptop: what is shown is that everything works together, not how well.
SMOKE: dict[str, Any] = {
    "iterations": 20,
    "batch_real": 16,
    "batch_train": 32,
    "train_interval": 4,
    "push_interval": 5,
    "eval_epochs": 60,
    "repeats": 1,
}
_SMOKE_SEED = 20230601

Settings = dict[str, Any]
Tell = Callable[[str], None]


def pipeline(script: Callable[..., Settings]) -> Callable[[], NoReturn]:
    """Make a program of a function that settles the options of a run.

    Args:
        script: takes the options given by the user (flat, with `out`, `overwrite` and `resume`;
            in a rehearsal over those of `SMOKE`), a function that tells a line to people, `smoke`,
            and options of its own by name; returns the options of `idm_ray.condense`. Its
            docstring is the help.

    Returns:
        The program: it condenses, and exits like `idm-ray`.
    """
    of_script = [param.name for param in getattr(script, "__click_params__", ())]

    @functools.wraps(script)
    def run(config_file: Path | None, smoke: bool, **given: Any) -> None:
        own = {name: given.pop(name) for name in of_script}

        def condensed(listener: Listener) -> Finished:
            settings = given_options(config_file, given)
            if smoke:
                out = settings.get("out") or next_free("runs", f"{script.__name__}-smoke")
                settings.update({**SMOKE, **settings, "out": str(out)})
            options = script(
                settings,
                lambda text: listener(Announcement(text)),
                smoke=smoke,
                **own,
            )
            return condense(listener=listener, **options)

        show_run(condensed)

    shortened = click.option("--smoke", is_flag=True, help="Try everything on small made images.")
    command = click.command(cls=GroupedCommand)(run_options(log_format_option(shortened(run))))
    return lambda: main(command)


def search_pipeline(script: Callable[..., Settings]) -> Callable[[], NoReturn]:
    """Make a program of a function that settles the options of a search.

    Args:
        script: takes the options given by the user, those of `idm-ray tune` by their flat names;
            a function that tells a line to people; and `smoke`; returns the options of the search.
            Its docstring is the help.

    Returns:
        The program: it searches, and exits like `idm-ray`.
    """
    return _program(script, search_options, lambda settings: run_search(None, settings))


def continual_pipeline(script: Callable[..., Settings]) -> Callable[[], NoReturn]:
    """Make a program of a function that settles the options of continual learning.

    Args:
        script: as for `search_pipeline`, with the options of `continual_options`.

    Returns:
        The program: it learns, and exits like `idm-ray`.
    """
    return _program(script, continual_options, run_continual)


def _program(
    script: Callable[..., Settings],
    options: Callable[[Callable[..., None]], Callable[..., None]],
    carry_out: Callable[[Settings], None],
) -> Callable[[], NoReturn]:
    """A program that settles its options by a script, and carries them out."""

    @functools.wraps(script)
    def run(config_file: Path | None, smoke: bool, **given: Any) -> None:
        # What the file says is as good as what the command line says; the script fills in the rest.
        given |= given_options(config_file, given)
        if smoke:
            out = given["out"] or str(next_free("runs", f"{script.__name__}-smoke"))
            told = {name: value for name, value in given.items() if value is not None}
            given |= {**SMOKE, **told, "out": out}
        carry_out(script(given, click.echo, smoke=smoke))

    shortened = click.option("--smoke", is_flag=True, help="Try everything on small made images.")
    command = click.command(cls=GroupedCommand)(options(shortened(run)))
    return lambda: main(command)


def on_cifar100(given: Settings, tell: Tell, *, searches: Sequence[str], smoke: bool) -> Settings:
    """Settle the options of searches that the paper has on CIFAR-100, at 10 per class.

    Args:
        given: options of the user, who wins.
        tell: tells a line to people.
        searches: to run unless the user names others.
        smoke: a rehearsal on small images of its own, which need no download.
    """
    given["search"] = given["search"] or searches
    given["ipc"] = given["ipc"] or 10
    if smoke:
        given |= {"data": smoke_images(32), "seeds": given["seeds"] or 1, "ipc": 1}
        tell("a rehearsal: what is drawn shows that everything works together, and nothing else")
    return {**given, "data": given["data"] or "cifar100"}


def smoke_images(size: int) -> str:
    """Draw a small labelled image collection, unless it is there: always the same.

    Args:
        size: side of the images, in pixels.

    Returns:
        A folder, in the user's cache, with `train/CLASS` and `test/CLASS` of JPEG files.
    """
    folder = user_cache() / f"smoke-{size}px"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "test").is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                _draw(Path(scratch, "images"), size)
                shutil.rmtree(folder, ignore_errors=True)
                Path(scratch, "images").rename(folder)
    return str(folder)


def smoke_shards(given: Settings, shards: str | None, *, size: int) -> str:
    """Write small images as shards, unless they are there.

    Args:
        given: options of the run, with `out`.
        shards: where to; None for a folder in `out`.
        size: side of the images, in pixels.

    Returns:
        Where they are.

    Raises:
        UserError: there are other shards.
    """
    images = smoke_images(size)
    target = Location.at(shards) if shards else Location.at(given["out"]) / "shards"
    if (target / MANIFEST_FILE).exists():
        name = open_shards(target).manifest.name
        if name != Path(images).name:
            raise UserError(
                f"expected a new place for the shards of --smoke, found those of {name!r} in "
                f"{target}: choose another --shards"
            )
    else:
        write_shards(images, out=target.address, local=given.get("local", False))
    return target.address


def _draw(folder: Path, size: int) -> None:
    rng = np.random.default_rng(_SMOKE_SEED)
    for split, count in (("train", 40), ("test", 10)):
        for label, name in enumerate(SMOKE_CLASSES):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                file = folder / split / name / f"{number:03d}.jpg"
                file.write_bytes(_jpeg(_pattern(label, size, rng)))


def _pattern(label: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(size, size, 3) pixels of a class: its texture somewhere, in any colours, with noise."""
    y, x = (np.mgrid[:size, :size] + rng.uniform(0, size, (2, 1, 1))) * 8 * np.pi / size
    texture = [
        np.sin(x),
        np.sin(np.hypot(x - x.mean(), y - y.mean())),
        np.sin(x) * np.sin(y),
        np.sin(y + 2 * np.sin(x / 2)),
        np.sin((x + y) / 2),
    ][label]
    tint = rng.uniform(-90, 90, 3)
    noise = rng.normal(0, 25, (size, size, 3))
    pixels: NDArray[np.float64] = 128 + texture[..., np.newaxis] * tint + noise
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()
