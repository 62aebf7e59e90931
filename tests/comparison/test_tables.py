import csv
import dataclasses
import io
import json

import numpy as np
import pytest

from idm_ray.comparison.cells import Cell, Made, from_told, gain, told
from idm_ray.comparison.examinations import Examinations, Examined, Kind
from idm_ray.comparison.files import as_csv, as_latex, as_markdown, read_cells, write_results
from idm_ray.comparison.layout import cell_text, grids
from idm_ray.errors import UserError
from idm_ray.storage import Location


def cell(method="idm", ipc=1, accuracies=None, **changes):
    made = Made(iterations=9, seconds=2.0, peak_memory_bytes=5, folder="sets/x")
    return Cell(
        **{
            "method": method,
            "ipc": ipc,
            "ratio": 0.001 * (ipc or 1000),
            "network": "convnet-3" if ipc else None,
            "evaluated_on": "convnet-3",
            "protocol": "paper",
            "epochs": 1000,
            "made": {0: made} if ipc else {},
            "accuracies": {0: (0.25, 0.35)} if accuracies is None else accuracies,
        }
        | changes
    )


WHOLE = cell("whole", None, {0: (0.8,)}, epochs=30)


def test_mean_and_deviation_are_over_all_networks_of_all_seeds():
    found = cell(accuracies={0: (0.2, 0.4), 3: (0.6,)})
    assert found.mean == pytest.approx(0.4)
    assert found.std == pytest.approx(np.std([0.2, 0.4, 0.6]))
    assert cell_text(found) == "40.0 ± 16.3 (3)"


def test_the_gain_is_over_random_under_the_same_conditions_only():
    cells = [
        cell("random", accuracies={0: (0.1,)}),
        cell("random", ipc=10, accuracies={0: (0.2,)}),
        cell("random", accuracies={0: (0.05,)}, protocol="dc"),
        cell("random", accuracies={0: (0.07,)}, evaluated_on="vgg11"),
        cell(),
    ]
    assert gain(cells[-1], cells) == pytest.approx(0.2)
    assert gain(cells[0], cells) == 0
    assert gain(cell(epochs=5), cells) is None
    assert gain(cell(accuracies={}), cells) is None


def test_a_table_has_methods_below_each_other_and_images_per_class_beside():
    cells = [cell("random", accuracies={0: (0.1,)}), cell(), cell(ipc=10, accuracies={}), WHOLE]
    (grid,) = grids("cifar10", cells)
    assert grid.title == "cifar10: test accuracy, %, protocol paper, 1000 epochs"
    assert grid.header == ("method", "1 per class, 0.1 %", "10 per class, 1 %")
    assert grid.rows == (
        ("Random", "10.0 (1)", ""),
        ("IDM", "30.0 ± 5.0 (2)", "-"),
        ("Whole data", "80.0 (1), 30 epochs", "80.0 (1), 30 epochs"),
    )
    assert grid.best == (1, None)


def test_protocols_have_tables_of_their_own():
    cells = [cell(), cell(protocol="dc", epochs=300)]
    assert [grid.title.partition("protocol ")[2] for grid in grids("x", cells)] == [
        "paper, 1000 epochs",
        "dc, 300 epochs",
    ]


def test_a_matrix_of_networks_says_which_are_which():
    cells = [
        cell(network=one, evaluated_on=other)
        for one in ("convnet-3", "alexnet")
        for other in ("convnet-3", "vgg11")
    ]
    (grid,) = grids("x", cells)
    assert grid.header[1:] == ("convnet-3, 1 per class, 0.1 %", "vgg11, 1 per class, 0.1 %")
    assert [row[0] for row in grid.rows] == ["IDM, convnet-3", "IDM, alexnet"]


def test_the_whole_data_alone_is_a_table_too():
    (grid,) = grids("x", [WHOLE])
    assert grid.rows == (("Whole data", "80.0 (1), 30 epochs"),)
    assert grid.best == (None,)


def test_a_failed_cell_says_so():
    assert cell_text(cell(accuracies={}, failed={0: "diverged"})) == "failed"


def test_markdown_and_latex_have_the_best_in_bold():
    cells = [cell("random", accuracies={0: (0.1,)}), cell()]
    (grid,) = grids("a|b_c", cells)
    markdown = as_markdown(grid).splitlines()
    assert markdown[2:] == [
        "| method | 1 per class, 0.1 % |",
        "| --- | ---: |",
        "| Random | 10.0 (1) |",
        "| IDM | **30.0 ± 5.0 (2)** |",
    ]
    latex = as_latex(grid)
    assert r"Random & 10.0 (1) \\" in latex
    assert r"IDM & \textbf{30.0 $\pm$ 5.0 (2)} \\" in latex
    assert latex.count(r"\begin{tabular}{lr}") == latex.count(r"\end{tabular}") == 1
    assert r"1 per class, 0.1 \%" in latex


def test_csv_has_a_line_for_each_cell_with_every_accuracy():
    cells = [cell(accuracies={0: (0.2,), 1: (0.4,)}), WHOLE]
    lines = list(csv.DictReader(io.StringIO(as_csv([told(one, cells) for one in cells]))))
    assert [line["method"] for line in lines] == ["idm", "whole"]
    assert float(lines[0]["mean"]) == pytest.approx(0.3)
    assert json.loads(lines[0]["accuracies"]) == {"0": [0.2], "1": [0.4]}
    assert (lines[0]["iterations"], lines[1]["iterations"], lines[1]["ipc"]) == ("9", "", "")


def test_what_latex_takes_for_its_own_is_escaped():
    (grid,) = grids("x", [cell(evaluated_on=r"a_{b}\^~#$&%"), cell()])
    heading = as_latex(grid).splitlines()[3]
    assert r"a\_\{b\}\textbackslash{}\^{}\~{}\#\$\&\%, 1 per class, 0.1 \%" in heading


def test_a_cell_is_read_back_as_it_was():
    full = cell(accuracies={0: (0.2, 0.3), 2: (0.5,)}, train_seconds={0: 1.5, 2: 2.0})
    for one in (full, WHOLE, cell(accuracies={}, made={}, failed={1: "diverged"})):
        again = from_told(json.loads(json.dumps(told(one, [one]))))
        assert again == dataclasses.replace(one, train_seconds=again.train_seconds)
        assert again.evaluate_seconds == one.evaluate_seconds


def test_the_files_are_written_together(tmp_path):
    write_results(Location.at(tmp_path), "digits", [cell(), WHOLE], {"commit": "abc"})
    found = json.loads((tmp_path / "results.json").read_text())
    assert (found["kind"], found["data"], found["made"]) == (
        "comparison", "digits", {"commit": "abc"},
    )  # fmt: skip
    assert [one["mean"] for one in found["cells"]] == [pytest.approx(0.3), 0.8]
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.json", "results.csv", "table.md", "table.tex",
    }  # fmt: skip


KIND = Kind(subject="a", network="convnet-3", protocol="paper", epochs=5, seed=0, settings="s")


def test_what_was_examined_is_known_the_next_time(tmp_path):
    first = Examinations(Location.at(tmp_path))
    assert first.missing(KIND, range(3)) == [0, 1, 2]
    first.add(KIND, 1, Examined(accuracy=0.5, seconds=2.0))
    again = Examinations(Location.at(tmp_path))
    assert again.missing(KIND, range(3)) == [0, 2]
    assert again.known(KIND) == {1: Examined(accuracy=0.5, seconds=2.0)}


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "b"},
        {"network": "vgg11"},
        {"protocol": "dc"},
        {"epochs": 6},
        {"seed": 1},
        {"settings": "t"},
    ],
)
def test_nothing_else_is_known_by_it(change, tmp_path):
    examinations = Examinations(Location.at(tmp_path))
    examinations.add(KIND, 0, Examined(accuracy=0.5, seconds=2.0))
    fields = {name: getattr(KIND, name) for name in KIND.__slots__}
    assert examinations.known(Kind(**fields | change)) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"networks": [{}]}',
        b'{"networks": 3}',
        b"\xff",
        json.dumps(
            {"networks": [{**dataclasses.asdict(KIND), "repeat": 0, "accuracy": 2, "seconds": 1}]}
        ).encode(),
    ],
)
def test_a_damaged_file_is_told_in_a_line(content, tmp_path):
    (tmp_path / "examinations.json").write_bytes(content)
    with pytest.raises(UserError, match="remove it to have them trained again"):
        Examinations(Location.at(tmp_path))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"cells": [{"method": "x"}]}'])
def test_damaged_results_are_told_in_a_line(content, tmp_path):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(UserError, match="expected the cells of a comparison in"):
        read_cells(Location.at(tmp_path))
