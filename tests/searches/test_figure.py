import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from idm_ray.searches.catalog import SEARCHES
from idm_ray.searches.figure import write_grid_figure, write_trials_figure
from idm_ray.searches.finding import from_file, with_values
from idm_ray.searches.same_runs import select
from idm_ray.searches.trials import tabulate_grid
from tests.searches.making import config_of, trial

LONG = "lambda_reg 0.1, lr_img 0.05, queue_size 100"


def drawn(folder, search, *, title="digits", without=(), **given):
    """The files of a figure of made-up results."""
    selection = select(search, config_of(iterations=40, **given), (0, 1))
    results = [
        trial(point.label, seed, (0.5 + 0.02 * place, 0.6), options=point.options)
        for place, point in enumerate(selection.to_run)
        for seed in (0, 1)
        if point.label not in without
    ]
    rows = tabulate_grid(selection, results)
    return write_grid_figure(
        folder / "figure", search, rows, title=title, split="validation", own=selection.own
    )


def texts(svg):
    """What is written in a figure: matplotlib notes it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


@pytest.mark.parametrize("name", ["lambda_reg", "queue_size", "accuracy_window"])
def test_a_line_or_bars_are_written_as_png_and_svg(tmp_path, name):
    png, svg = drawn(tmp_path, SEARCHES[name])
    assert (png.name, svg.name) == ("figure.png", "figure.svg")
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 600
        assert len(picture.convert("RGB").getcolors(2**24)) > 10
    assert ET.parse(svg).getroot().tag.endswith("svg")
    written = texts(svg)
    assert {"digits", "validation accuracy, %", "default"} <= {*written}
    assert "mean ± std, 4 networks, 2 seeds" in written


def test_values_are_where_they_were_measured(tmp_path):
    _, svg = drawn(tmp_path, SEARCHES["lambda_reg"])
    assert {"0", "0.1", "0.25", "0.5", "1", "2.5"} <= {*texts(svg)}
    _, svg = drawn(tmp_path, SEARCHES["components"])
    assert {"DM", "+ model queue", "+ regularization", "+ partition"} <= {*texts(svg)}


def test_labels_that_would_run_into_each_other_are_left_out(tmp_path):
    _, svg = drawn(tmp_path, with_values("lambda_reg", "0.5,0.501,0.502,3"))
    assert "0.5" in texts(svg)
    assert "3" in texts(svg)
    assert "0.501" not in texts(svg)


def test_points_that_were_not_run_are_told_apart(tmp_path):
    _, svg = drawn(tmp_path, with_values("queue_size", "4,60,140"))
    assert "the same run" in texts(svg)
    _, svg = drawn(tmp_path, with_values("queue_size", "4,8"))
    assert "the same run" not in texts(svg)


def test_points_without_a_result_are_left_out(tmp_path):
    _, svg = drawn(tmp_path, SEARCHES["queue_size"], without=("6",))
    assert {"4", "8", "11"} <= {*texts(svg)}
    assert "6" not in texts(svg)
    _, svg = drawn(tmp_path, SEARCHES["partition"], without=("1", "2", "3"))
    assert "no trial came to its end" in texts(svg)


def test_many_long_labels_lie_beside_their_bars(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("lambda_reg: [0.1, 0.5]\nlr_img: [0.01, 0.05, 0.2]\nqueue_size: [100]\n")
    png, svg = drawn(tmp_path, from_file(path))
    assert LONG in texts(svg)
    assert "55.0" in texts(svg)
    with Image.open(png) as picture:
        assert picture.width > 1300


def test_the_same_results_are_the_same_bytes(tmp_path):
    before = [path.read_bytes() for path in drawn(tmp_path, SEARCHES["lambda_reg"])]
    assert [path.read_bytes() for path in drawn(tmp_path, SEARCHES["lambda_reg"])] == before


def test_a_title_is_no_formula(tmp_path):
    _, svg = drawn(tmp_path, SEARCHES["lambda_reg"], title=r"my $\frac folder$")
    assert r"my $\frac folder$" in texts(svg)


def test_trials_of_a_free_search_are_drawn_in_their_order(tmp_path):
    results = [
        trial("trial 1", accuracies=(0.5,)),
        trial("trial 2", accuracies=(0.4,), status="stopped"),
        trial("trial 3", accuracies=(), status="failed", cause="no memory"),
        trial("trial 4", accuracies=(0.7, 0.8)),
    ]
    _, svg = write_trials_figure(tmp_path / "all", results, title="digits", split="validation")
    assert {"trial", "best so far", "stopped early", "to its end"} <= {*texts(svg)}
    _, svg = write_trials_figure(tmp_path / "all", [], title="digits", split="validation")
    assert "no trial came to its end" in texts(svg)
