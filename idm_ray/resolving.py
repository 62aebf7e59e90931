"""From given options to the settled config of a run, and what there is to say of it."""

import os
from collections.abc import Mapping
from typing import Any

from idm_ray import recipes
from idm_ray.algorithm.synthetic import num_start_images
from idm_ray.building import can_be_matched
from idm_ray.config import CondenseConfig, RunConfig
from idm_ray.data.classes import parse_classes, write_classes
from idm_ray.data.dataset import DatasetInfo, open_dataset
from idm_ray.data.sources import locate
from idm_ray.data.splits import repeated_start
from idm_ray.errors import UserError
from idm_ray.host import memory_bytes
from idm_ray.layout import check_memory, default_rounds, settle
from idm_ray.methods.method import Rounds
from idm_ray.plan import copy_at
from idm_ray.progress import Announcement


def plain_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with paths as text."""
    return {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}


def resolve(options: Mapping[str, Any]) -> tuple[RunConfig, DatasetInfo, list[Announcement]]:
    """Flat options to a settled config, the data that it was settled for, and notes about both.

    Opens the data, which decodes them if nobody has yet.

    Raises:
        UserError: wrong options or data.
    """
    used, unused = recipes.split_options(plain_values(options))
    # Wrong values are refused before any data is read; lambda_reg depends on the recipe.
    info = open_dataset(RunConfig.from_flat({"lambda_reg": 0.0, **used}).data).info
    config, notes = _settle(used, info)
    if unused:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in unused)
        text = f"method {config.condense.method} does not use {names}: ignored"
        notes.append(Announcement(text, warning=True))
    return config, info, notes


def settled(options: Mapping[str, Any], info: DatasetInfo) -> RunConfig:
    """The config that `resolve` would give, for data that are open already.

    Raises:
        UserError: wrong options.
    """
    used, _ = recipes.split_options(plain_values(options))
    return _settle(used, info)[0]


def _settle(options: Mapping[str, Any], info: DatasetInfo) -> tuple[RunConfig, list[Announcement]]:
    """Options that the method uses to a settled config, and what there is to say about it."""
    facts = recipes.Facts(
        known_as=info.known_as, image_shape=info.image_shape, train_counts=info.train_counts
    )
    resolved, recipe = recipes.resolve_options(options, facts)
    config = absolute(RunConfig.from_flat(resolved))
    config = settle(config, info.image_shape, info.num_classes)
    if not can_be_matched(config.condense.network):
        raise UserError(
            f"expected a network without batch norm to condense with, got {config.condense.network}"
            ": choose another, and test the set on this one by idm-ray evaluate --networks"
        )
    _check_iterates(config)
    check_memory(config, info.image_shape, info.num_classes, memory_bytes())
    held_out = f", {sum(info.val_counts)} validation" if info.val_counts else ""
    notes = [
        Announcement(
            f"{info.name}: {info.num_classes} classes, {sum(info.train_counts)} training{held_out} "
            f"and {sum(info.test_counts)} test images of {'x'.join(map(str, info.image_shape))}"
        ),
        Announcement(f"recipe {recipe.name}: {recipe.origin}"),
    ]
    if (rounds := default_rounds(config.condense)) is not None:
        notes.append(Announcement(_describe_rounds(config.condense, rounds)))
    if info.skipped:
        some = "; ".join(info.unreadable)
        more = info.skipped - len(info.unreadable)
        rest = f"; and {more} more" if more else ""
        text = f"left out {info.skipped} unreadable images: {some}{rest}"
        notes.append(Announcement(text, warning=True))
    start, ipc, partition = config.condense.start, config.condense.ipc, config.condense.partition
    needed = num_start_images(start, ipc, partition)
    repeating = repeated_start(
        info.class_names, info.train_counts, needed, strict=config.data.strict
    )
    if repeating:
        notes.append(Announcement(repeating, warning=True))
    return config, notes


def _check_iterates(config: RunConfig) -> None:
    """Refuse to select an iterate of a run that has no more than its last; see `RunConfig`, too."""
    if config.evaluation.select == "validation" and not copy_at(config):
        iterations = config.condense.iterations
        raise UserError(
            "select validation needs iterates to select from: expected eval_interval or eval_at "
            f"below the run's {iterations} iterations, got none; set eval_interval, such as "
            f"{max(1, iterations // 10)}, or select last"
            if iterations
            else f"method {config.condense.method} has no iterates: expected select last, got "
            "validation; leave it out"
        )


def _describe_rounds(condense: CondenseConfig, published: Rounds) -> str:
    """How often the images are stepped in an iteration, and where that comes from."""
    outer, inner = condense.outer_rounds, condense.inner_epochs
    text = "1 outer round an iteration"
    if outer != 1:
        text = f"{outer} outer rounds an iteration, {inner} inner epochs between them"
    if (outer, inner) != (published.outer, published.inner):
        return text
    nearest = "" if published.ipc == condense.ipc else f", the nearest to {condense.ipc}"
    return f"{text}: published for {published.ipc} per class{nearest}"


def absolute(config: RunConfig) -> RunConfig:
    """The config with paths that every process finds, whatever its working directory."""
    data = config.data
    return config.replace(
        data=locate(data.data),
        data_root=_absolute_path(data.data_root),
        classes=data.classes and write_classes(parse_classes(data.classes)),
        cache_dir=_absolute_path(data.cache_dir),
    )


def _absolute_path(written: str | None) -> str | None:
    return written and os.path.abspath(os.path.expanduser(written))
