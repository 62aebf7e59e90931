"""Writes settings.md, the list of all options, from the config: `make docs`."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from idm_ray.config import METHODS, NETWORKS, PARTS, TORCHVISION, RunConfig
from idm_ray.methods.catalog import find_method
from idm_ray.network_names import CHOICES, GROUPS, ConvNetDesign
from idm_ray.options import describe_options, value_text
from idm_ray.recipes import PUBLISHED, Facts, choose_recipe, recipe_names

_HEAD = """# Settings

Each option has one name, flat, in three places: `--push-interval 5` on the command line,
`push_interval: 5` in the YAML file of `--config`, and `push_interval=5` in Python. What is given
wins over the file, the file over the recipe, and the recipe over the defaults below. An unknown
name is refused with the nearest known one, a wrong value with what is allowed.

This page is written by `make docs` from `idm_ray/config.py` and `idm_ray/recipes.py`.
"""

_NETWORKS = f"""
## Networks

`--network` names the one that a set is condensed with, `evaluate --networks` those that it is
tested on: {", ".join(f"`{name}`" for name in NETWORKS)},
`{TORCHVISION}NAME` for a classifier of torchvision, or a ConvNet. `convnet-3` is the paper's with 3
blocks; what differs from it is added, as in `convnet-3-w64-max-leakyrelu`. Those with batch norm
look at a whole batch, so they are for testing alone, and so are torchvision's.
"""

_RECIPES = """
## Recipes

`--recipe auto` recognises the data by name, or by class names and image size, and says what it
took. Options that are not listed keep their defaults, and so does `-`. Names that end in `-text`
have the paper's text where it differs from the authors' published commands. Other numbers of images
per class take the nearest row. `default` is for all other data and goes by the size of the images.
"""


def pages() -> str:
    """The whole page, as Markdown."""
    parts = [_HEAD, *_options(), _NETWORKS, *_convnets(), _RECIPES, *_recipes()]
    return "\n".join(parts) + "\n"


def _options() -> Iterator[str]:
    described = {name: rest for name, *rest in describe_options()}
    yield from _table({"recipe": described["recipe"]}, "What is run")
    for part in PARTS.values():
        names = [field.name for field in dataclasses.fields(part)]
        heading = (part.__doc__ or "").splitlines()[0].rstrip(".")
        yield from _table({name: described[name] for name in names}, heading)
    yield from _methods()


def _methods() -> Iterator[str]:
    yield "## Methods\n"
    yield "| `--method` | what makes the images | has no use for |"
    yield "| --- | --- | --- |"
    for name in METHODS:
        method = find_method(name)
        unused = ", ".join(f"`{option}`" for option in method.unused) or "-"
        yield f"| `{name}` | {method.description} | {unused} |"


def _table(rows: dict[str, list[Any]], heading: str) -> Iterator[str]:
    yield f"## {heading}\n"
    yield "| option | values | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for name, (text, default, hint) in rows.items():
        values = "yes or no" if hint is bool else value_text(hint).lower().replace("|", ", ")
        shown = "" if default is None else str(default).replace("False", "no")
        yield f"| `{name}` | {values} | {shown} | {text} |"
    yield ""


def _convnets() -> Iterator[str]:
    explained = {
        "instance": "of each channel of an image",
        "batch": "of each channel in the batch",
        "layer": "of all channels of an image",
        "group": f"of {GROUPS} groups of channels",
        "nonorm": "none",
        "avg": "mean of 2x2 pixels",
        "max": "largest of 2x2 pixels",
        "nopool": "none",
    }
    yield "| part of a ConvNet | words; the first is the paper's and is left out of the name |"
    yield "| --- | --- |"
    yield f"| width | `w{ConvNetDesign(depth=1).width}`, or any other number of filters |"
    for part, words in CHOICES.items():
        told = (f"`{w}` ({explained[w]})" if w in explained else f"`{w}`" for w in words)
        yield f"| {part} | {', '.join(told)} |"


def _recipes() -> Iterator[str]:
    defaults = RunConfig().flat()
    rows = {
        f"`{name}`, {ipc}": choose_recipe(name, "idm", ipc, _facts(32)).options
        for name in recipe_names()
        if name != "default"
        for ipc in PUBLISHED.get(name.removesuffix("-text"), (1,))
    }
    for size in (32, 224):
        for ipc in (1, 10, 50):
            options = choose_recipe("default", "idm", ipc, _facts(size)).options
            rows[f"`default`, {ipc}, {size} pixels"] = options
    varied = [
        name
        for name, default in defaults.items()
        if any(options.get(name, default) != default for options in rows.values())
    ]
    yield "| recipe, per class | " + " | ".join(f"`{name}`" for name in varied) + " |"
    yield "| --- |" + " --- |" * len(varied)
    for heading, options in rows.items():
        values = (_differing(options.get(name), defaults[name]) for name in varied)
        yield f"| {heading} | " + " | ".join(values) + " |"


def _differing(value: Any, default: Any) -> str:
    return "-" if value in (None, default) else str(value)


def _facts(size: int) -> Facts:
    return Facts(known_as=None, image_shape=(3, size, size), train_counts=(5000,))


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(pages())
