import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idm_ray.config_file import given_options
from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.files import best_options, write_best, write_csv, write_parquet
from tests.searches.making import CIFAR100, DIGITS, config_of, trial

RESULTS = (
    trial("0.1", options={"lambda_reg": 0.1, "accuracy_window": "last", "queue_size": 4}),
    trial("1", seed=1, options={"lambda_reg": 1, "accuracy_window": 5}),
    trial("x", status="failed", cause="no\nmemory, at all", accuracies=(), options={}),
)


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_has_a_line_for_each_trial(tmp_path):
    path = tmp_path / "results.csv"
    write_csv(path, RESULTS)
    first, second, failed = read_csv(path)
    assert first == {
        "search": "lambda_reg",
        "label": "0.1",
        "seed": "0",
        "status": "done",
        "cause": "",
        "accuracy": first["accuracy"],
        "std": first["std"],
        "accuracies": "[0.8, 0.9]",
        "seconds": "12.5",
        "iterations_done": "40",
        "folder": "runs/0.1-0",
        "lambda_reg": "0.1",
        "accuracy_window": "last",
        "queue_size": "4",
    }
    assert float(first["accuracy"]) == pytest.approx(0.85)
    assert float(first["std"]) == pytest.approx(0.05)
    assert (second["lambda_reg"], second["accuracy_window"], second["queue_size"]) == (
        "1.0",
        "5",
        "",
    )
    assert (failed["cause"], failed["accuracy"]) == ("no memory, at all", "")
    assert json.loads(failed["accuracies"]) == []
    assert path.read_text().count("\n") == 4


def test_the_parquet_holds_the_same_with_types(tmp_path):
    write_parquet(tmp_path / "results.parquet", RESULTS)
    table = pq.read_table(tmp_path / "results.parquet")
    assert table["accuracies"].to_pylist() == [[0.8, 0.9], [0.8, 0.9], []]
    assert table["lambda_reg"].to_pylist() == [0.1, 1.0, None]
    assert table["queue_size"].to_pylist() == [4, None, None]
    assert table["accuracy_window"].to_pylist() == ["last", "5", None]
    kinds = [table.schema.field(n).type for n in ("seed", "queue_size", "lambda_reg", "accuracy")]
    assert kinds == [pa.int64(), pa.int64(), pa.float64(), pa.float64()]


def test_what_searchers_draw_is_written_as_plain_numbers(tmp_path):
    drawn = {"lr_img": np.float64(0.1), "train_steps": np.int64(7)}
    write_parquet(tmp_path / "results.parquet", [trial(options=drawn)])
    table = pq.read_table(tmp_path / "results.parquet")
    assert (table["lr_img"].to_pylist(), table["train_steps"].to_pylist()) == ([0.1], [7])
    write_best(tmp_path / "best.yaml", {}, drawn)
    assert given_options(tmp_path / "best.yaml", {}) == {
        "data": "digits",
        "ipc": 1,
        "lr_img": 0.1,
        "train_steps": 7,
    }


def test_no_trials_are_files_with_a_head_only(tmp_path):
    write_csv(tmp_path / "results.csv", [])
    write_parquet(tmp_path / "results.parquet", [])
    assert read_csv(tmp_path / "results.csv") == []
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 0


def test_files_are_replaced_whole(tmp_path):
    for results in (RESULTS, RESULTS[:1]):
        write_csv(tmp_path / "results.csv", results)
        write_parquet(tmp_path / "results.parquet", results)
    assert len(read_csv(tmp_path / "results.csv")) == 1
    assert pq.read_table(tmp_path / "results.parquet").num_rows == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.parquet"]


def test_the_best_config_says_no_more_than_was_given_and_chosen():
    given = {"iterations": 40, "out": "runs/x", "overwrite": True, "lambda_reg": 0.3}
    assert best_options(given, {"lambda_reg": 0.25}) == {
        "data": "digits",
        "ipc": 1,
        "iterations": 40,
        "lambda_reg": 0.25,
    }


@pytest.mark.parametrize("name", sorted({*SEARCHES} - {"all"}))
@pytest.mark.parametrize(
    ("facts", "given"),
    [
        # Of the digits' recipe, 1 is no default: it must not come back as the recipe's 4.
        (DIGITS, {"iterations": 40, "train_interval": 1}),
        (CIFAR100, {"data": "cifar100", "ipc": 10, "recipe": "cifar100-text", "local": True}),
    ],
    ids=["digits", "cifar100"],
)
def test_condense_makes_the_trial_s_config_of_best_yaml(tmp_path, name, facts, given):
    config = config_of(facts, **given)
    for point in SEARCHES[name].points(config):
        write_best(tmp_path / "best.yaml", given, point.options)
        read = given_options(tmp_path / "best.yaml", {})
        assert config_of(facts, **read) == config_of(facts, **{**given, **point.options})


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-05, 123456.789, 1 / 3])
def test_numbers_come_back_to_the_last_bit(tmp_path, value):
    write_best(tmp_path / "best.yaml", {}, {"lr_img": value})
    assert given_options(tmp_path / "best.yaml", {})["lr_img"] == value
