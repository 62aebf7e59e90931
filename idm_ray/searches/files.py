"""The files of a search: every trial as CSV and Parquet, and its best setting as a config."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from idm_ray.config import CondenseConfig, DataConfig, option_names
from idm_ray.local_disk import atomic_write
from idm_ray.results.atomic import write_text
from idm_ray.searches.trials import TrialResult

_SCHEMA: Final = {
    "search": pa.string(),
    "label": pa.string(),
    "seed": pa.int64(),
    "status": pa.string(),
    "cause": pa.string(),
    "accuracy": pa.float64(),
    "std": pa.float64(),
    "accuracies": pa.list_(pa.float64()),
    "seconds": pa.float64(),
    "iterations_done": pa.int64(),
    "folder": pa.string(),
}
"""Columns of all searches; those of the options that a search sets follow."""


def write_csv(path: str | os.PathLike[str], results: Sequence[TrialResult]) -> None:
    """Writes one line for each trial, atomically; accuracies are fractions, a JSON list of them."""
    table = make_table(results)
    file = io.StringIO(newline="")
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(table.column_names)
    for row in table.to_pylist():
        row["accuracies"] = json.dumps(row["accuracies"])
        lines.writerow("" if value is None else value for value in row.values())
    write_text(path, file.getvalue())


def write_parquet(path: str | os.PathLike[str], results: Sequence[TrialResult]) -> None:
    """Writes one row for each trial, atomically."""
    with atomic_write(path) as file:
        pq.write_table(make_table(results), file, compression="zstd")


def write_best(
    path: str | os.PathLike[str], given: Mapping[str, Any], chosen: Mapping[str, Any]
) -> None:
    """Writes the options of a run as `condense --config` takes them, atomically.

    Args:
        path: The file to create or replace.
        given: Flat options that the trials had in common, as the user gave them.
        chosen: Flat options of the best point; they win.
    """
    write_text(path, yaml.safe_dump(best_options(given, chosen), sort_keys=False))


def best_options(given: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run with the best setting: data and images per class, given, and chosen.

    What a recipe adds to them it adds to the run again, so that the run is the trial's.
    """
    known = set(option_names())
    said = {"data": DataConfig().data, "ipc": CondenseConfig().ipc} | {**given, **chosen}
    return {name: _plain(value) for name, value in said.items() if name in known}


def make_table(results: Sequence[TrialResult]) -> pa.Table:
    """The trials as columns.

    An option's column is of numbers if all its values are, else of text; null where a trial does
    not set it.
    """
    rows = [_row(result) for result in results]
    names = dict.fromkeys(name for result in results for name in result.options)
    options = {name: [_plain(r.options.get(name)) for r in results] for name in names}
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in _SCHEMA.items()]
    columns += [_option_column(values) for values in options.values()]
    return pa.Table.from_arrays(columns, names=[*_SCHEMA, *options])


def _row(result: TrialResult) -> dict[str, Any]:
    accuracies = [float(accuracy) for accuracy in result.accuracies]
    return {
        "search": result.search,
        "label": result.label,
        "seed": result.seed,
        "status": result.status,
        "cause": " ".join(result.cause.split()),
        "accuracy": float(np.mean(accuracies)) if accuracies else None,
        "std": float(np.std(accuracies)) if accuracies else None,
        "accuracies": accuracies,
        "seconds": float(result.seconds),
        "iterations_done": result.iterations,
        "folder": result.folder,
    }


def _option_column(values: Sequence[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int}:
        return pa.array(values, pa.int64())
    if kinds <= {int, float}:
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array([None if v is None else str(v) for v in values], pa.string())


def _plain(value: Any) -> Any:
    """A value without numpy's types, which searchers draw."""
    return value.item() if isinstance(value, np.generic) else value
