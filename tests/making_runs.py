"""Tiny runs in this process, without Ray, for the tests of this folder."""

import contextlib
import io
import json
import signal
import sys
from dataclasses import dataclass

import numpy as np
from PIL import Image

from idm_ray.algorithm.numerics import Numerics
from idm_ray.cli import main
from idm_ray.config import RunConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.layout import settle
from idm_ray.plan import Plan
from idm_ray.results.condensed import read_arrays
from idm_ray.run import condense

TINY = {
    "data": "digits",
    "limit_per_class": 20,
    "iterations": 3,
    "batch_real": 16,
    "classes_per_group": 5,
    "queue_size": 4,
    "push_interval": 2,
    "train_interval": 1,
    "train_steps": 2,
    "batch_train": 32,
    "repeats": 0,
    "eval_epochs": 2,
    "local": True,
    "device": "cpu",
    "threads": 1,
}


def run(folder, *, overwrite=False, listener=lambda event: None, **options):
    """Condense into a folder with tiny settings."""
    return condense(out=folder, overwrite=overwrite, listener=listener, **{**TINY, **options})


def pixels(folder):
    """The condensed images of a run."""
    return read_arrays(folder / "condensed.parquet")[0]


def pixels_of(folder, **options):
    """Condense into a folder and give the images."""
    return pixels(run(folder, **options).folder)


def metrics(folder):
    """The lines that a run has logged."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def progress_of(folder):
    """Those of them that tell of iterations."""
    return [line for line in metrics(folder) if "matching_loss" in line]


def plan_of(**options):
    """A settled plan and its data, as a runner makes them."""
    config = RunConfig.from_flat({**TINY, **options})
    dataset = open_dataset(config.data)
    info = dataset.info
    config = settle(config, info.image_shape, info.num_classes)
    return Plan(config=config, info=info, numerics=Numerics(device="cpu", threads=1)), dataset


def write_pictures(root, counts):
    """Class folders of random 8x8 colour images, `counts` of each class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(root / name / f"{number:03d}.png")
    return root


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


def command(*words, program=main):
    """Run the command line, or another program like it, in this process."""
    argv = sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["idm-ray", *map(str, words)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            program()
    except SystemExit as ended:
        return Outcome(ended.code, out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
        for number, handler in handlers.items():
            signal.signal(number, handler)
    raise AssertionError("the command returned without an exit status")


def as_words(**options):
    """Options as they are written on the command line."""
    words = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        words += [flag] if value is True else [flag, str(value)]
    return words


TINY_WORDS = tuple(as_words(**TINY))
