"""What stands on the page of a comparison."""

import pytest

import idm_ray
from idm_ray.errors import UserError
from tests.page.making import Html, cell, write_comparison, write_set

TABLE = [
    cell("random", 1, 0.144, gain_over_random=0.0, iterations=None),
    cell("random", 10, 0.26, gain_over_random=0.0, iterations=None, ratio=0.002),
    cell("idm", 1, 0.456),
    cell("idm", 10, 0.586),
    cell(
        "whole",
        None,
        0.81,
        **{"network": None, "ratio": 1.0, "gain_over_random": None, "epochs": 30},
        **{"condense_seconds": None, "peak_rss_bytes": None},
        seeds=[{"seed": 0, "accuracies": [0.81]}],
    ),
]


def html_of(root, cells, **changes):
    written = idm_ray.write_report(write_comparison(root, cells, **changes), overwrite=True)
    return Html(root / "report.html"), written


def cells_of(html):
    """Texts of the cells, by their tag and class."""
    return [attrs for tag, attrs in html.elements if tag in ("td", "th")]


def test_methods_stand_against_images_per_class_with_the_best_marked(tmp_path):
    html, written = html_of(tmp_path, TABLE)
    assert written.is_complete
    assert "cifar10, 3 methods" in html.texts
    for text in ("14.4 ± 1.0 (2)", "45.6 ± 1.0 (2)", "58.6 ± 1.0 (2)", "81.0 (1)", "0.02 %"):
        assert text in html.texts
    assert "convnet-3, 1,000 or 30 epochs" in html.text
    best = [attrs for attrs in cells_of(html) if "best" in attrs.get("class", "")]
    assert len(best) == 2
    assert [attrs["colspan"] for attrs in cells_of(html) if "colspan" in attrs] == ["2"]


def test_the_plot_has_every_method_and_tells_its_numbers(tmp_path):
    html, _ = html_of(tmp_path, TABLE)
    (plot,) = [attrs for attrs in html.all("div") if attrs.get("role") == "img"]
    assert "random 14.4 at 1, 26.0 at 10; idm 45.6 at 1, 58.6 at 10" in plot["aria-label"]
    assert {"random", "idm", "whole", "images per class"} <= {*html.texts}


def test_what_each_took_is_told(tmp_path):
    html, _ = html_of(tmp_path, TABLE)
    for text in ("+26.0", "10 min 0 s", "1 min 40 s", "700.0 MB", "400"):
        assert text in html.texts


def test_networks_across_are_a_matrix_for_each_number_of_images(tmp_path):
    names = ("convnet-3", "resnet18")
    cells = [
        cell("dm", ipc, 0.3 + 0.01 * i + 0.1 * k, network=made, evaluated_on=tested)
        for ipc in (1, 10)
        for i, made in enumerate(names)
        for k, tested in enumerate(names)
    ]
    html, _ = html_of(tmp_path, cells)
    assert html.texts.count("dm, resnet18") == 2
    assert len([a for a in cells_of(html) if "best" in a.get("class", "")]) == 4
    assert len(html.all("svg")) == 0
    assert "41.0 ± 1.0 (2)" in html.texts


def test_protocols_have_tables_of_their_own(tmp_path):
    html, _ = html_of(tmp_path, [*TABLE, cell("idm", 1, 0.3, protocol="dc", epochs=300)])
    assert {"Protocol paper", "Protocol dc"} <= {*html.texts}


def test_images_of_cells_stand_side_by_side_and_missing_ones_are_told_of(tmp_path):
    for name in ("runs/a", "runs/b"):
        write_set(tmp_path / name / "condensed.parquet")
    cells = [
        cell("dm", folder="runs/a"),
        cell("idm", folder="runs/b"),
        cell("idm", 10, folder="runs/none"),
        cell("kmeans", folder="../elsewhere"),
    ]
    html, written = html_of(tmp_path, cells)
    assert len(html.pictures("condensed dog")) == 4
    assert {"dm, 1 per class", "idm, 1 per class"} <= {*html.texts}
    first, second = written.notices
    assert first.startswith("The images of idm, 10 per class are not shown: ")
    assert "expected a path inside" in second


def test_a_comparison_with_cells_to_come_is_not_complete(tmp_path):
    html, written = html_of(tmp_path, [TABLE[0], cell("idm", 1) | {"mean": None, "seeds": []}])
    assert not written.is_complete
    assert "1 cell of 2 have no accuracy yet" in html.text


def test_names_of_strangers_are_text_in_tables_and_plots(tmp_path):
    hostile = "</text></svg><script>alert(1)</script>$\\frac$"
    cells = [cell(hostile, 1), cell(hostile, 10), cell("idm", 1), cell("idm", 10)]
    html, _ = html_of(tmp_path, cells, data=hostile, made={hostile: hostile})
    assert len(html.all("script")) == 1
    assert html.texts.count(hostile) >= 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "bench"}, "expected a comparison in .*, found 'bench'"),
        ({"kind": None}, "found 'nothing that says what it is'"),
        ({"format": 2}, "expected a comparison of format 1 .* found format 2: use a newer"),
        ({"cells": [3]}, r"expected an object as it in 'cells'\[0\]"),
        ({"cells": [cell() | {"mean": "much"}]}, "expected a finite number as mean in"),
        ({"cells": [cell() | {"mean": float("nan")}]}, "expected a finite number as mean in"),
        ({"cells": [cell() | {"epochs": -1}]}, "expected a whole number from 0 as epochs"),
        ({"cells": [cell() | {"method": None}]}, "expected a text as method in"),
        ({"data": 3}, "expected a text as data in"),
    ],
)
def test_a_damaged_file_is_refused_with_what_is_wrong(tmp_path, changes, told):
    write_comparison(tmp_path, **{"cells": [cell()], **changes})
    with pytest.raises(UserError, match=told):
        idm_ray.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
