"""Figures of continual learning: means over orders and networks, drawn and written."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image
from rich.console import Console

from idm_ray.continual.course import Course, Schedule
from idm_ray.continual.figure import write_figure
from idm_ray.continual.network import Score
from idm_ray.continual.outcome import Learned, as_csv, as_json, points_of, title_of
from idm_ray.tables.experiments import learned_table


def learned(steps=3, orders=2, repeats=2, num_classes=10, methods=("dm", "idm")):
    """A made-up course whose accuracies are known: 0.9 - 0.1 step + 0.01 order + 0.02 repeat."""
    course = Course(steps=steps, orders=orders, methods=methods)
    schedule = Schedule(course=course, seed=0, repeats=repeats, num_classes=num_classes)
    found = {
        job: Score(
            accuracy=0.9 - 0.5 / steps * job.step + 0.01 * job.order + 0.02 * job.repeat,
            seconds=1.0,
        )
        for _, _, jobs in schedule.groups()
        for job in jobs
    }
    protocol = {"network": "convnet-3", "protocol": "paper", "epochs": 1000, "split": "test"}
    return Learned(
        folder="runs/continual",
        title=title_of(schedule, "digits", 20),
        protocol=protocol,
        schedule=schedule,
        points=points_of(schedule, found),
        condensing_s=dict.fromkeys(methods, 61.0),
        training_s=float(len(found)),
        made={"commit": "abc"},
    )


def texts(svg):
    """What is written in a figure: matplotlib notes it beside the outlines of the letters."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


def test_a_point_is_mean_and_population_deviation_over_orders_and_networks():
    point = learned(steps=5).curve("idm")[1]
    values = [0.7 + 0.01 * order + 0.02 * repeat for order in (0, 1) for repeat in (0, 1)]
    mean = sum(values) / 4
    assert point.accuracies == pytest.approx(values)
    assert (point.step, point.num_classes) == (2, 4)
    assert point.mean == pytest.approx(mean)
    assert point.std == pytest.approx((sum((v - mean) ** 2 for v in values) / 4) ** 0.5)


def test_the_csv_has_a_line_for_each_point():
    found = learned()
    rows = list(csv.DictReader(io.StringIO(as_csv(found.points))))
    assert [(row["method"], row["step"], row["num_classes"]) for row in rows] == [
        (method, str(step), str(seen))
        for method in ("dm", "idm")
        for step, seen in ((1, 4), (2, 7), (3, 10))
    ]
    assert {row["networks"] for row in rows} == {"4"}
    assert float(rows[0]["mean"]) == found.points[0].mean


def test_the_json_says_what_was_learned_and_how_it_was_made():
    content = as_json(learned())
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["title"] == "digits: 3 steps of 3 or 4 classes, 20 images per class in memory"
    assert [point["num_classes"] for point in content["curves"]["dm"]] == [4, 7, 10]
    assert sorted(c for step in content["class_orders"]["1"] for c in step) == list(range(10))
    assert content["made"] == {"commit": "abc"}
    assert (content["protocol"], content["epochs"], content["split"]) == ("paper", 1000, "test")


def test_a_curve_with_its_band_is_drawn_for_each_method(tmp_path):
    png, svg = write_figure(tmp_path, learned())
    assert (png.name, svg.name) == ("continual.png", "continual.svg")
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) >= 600
    assert ET.parse(svg).getroot().tag.endswith("svg")
    written = texts(svg)
    assert {"4", "7", "10", "test accuracy, %", "classes so far, of 10"} <= {*written}
    assert {"dm: 41.5 ± 1.1", "idm: 41.5 ± 1.1"} <= {*written}
    assert "convnet-3, protocol paper, 1000 epochs; mean ± std, 2 orders x 2 networks" in written
    assert len(re.findall(r'id="FillBetweenPolyCollection_\d+"', svg.read_text())) == 2


def test_one_network_has_no_deviation_and_many_steps_not_all_their_numbers(tmp_path):
    found = learned(steps=50, orders=1, repeats=1, num_classes=100, methods=("idm",))
    _, svg = write_figure(tmp_path, found)
    written = texts(svg)
    assert "idm: 40.0" in written
    assert "100" in written
    assert {"10", "20", "90"} <= {*written}
    assert {"98", "96", "2"}.isdisjoint(written)


def test_the_table_has_a_row_for_each_step():
    out = io.StringIO()
    Console(file=out, width=100).print(learned_table(learned()))
    told = " ".join(out.getvalue().split())
    assert "digits: 3 steps of 3 or 4 classes" in told
    for cell in ("74.8 ± 1.1", "58.2 ± 1.1", "41.5 ± 1.1", "1 min 1 s"):
        assert told.count(cell) == 2
    assert "mean ± std, 2 orders x 2 networks" in told
    assert "all networks took 24 s" in told
