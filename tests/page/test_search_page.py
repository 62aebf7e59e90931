"""What stands on the page of a search."""

import json
import shutil

import pytest

import idm_ray
from idm_ray.errors import UserError
from tests.page.making import Html, write_request, write_search


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("search") / "tuned")


@pytest.fixture
def copied(searched, tmp_path):
    """A search that may be spoiled."""
    return shutil.copytree(searched, tmp_path / "search")


def html_of(folder):
    written = idm_ray.write_report(folder, overwrite=True)
    assert written.what == "search"
    return Html(folder / "report.html"), written


def test_points_best_setting_test_result_and_images_are_there(copied):
    summary = json.loads((copied / "summary.json").read_text())
    html, written = html_of(copied)
    assert written.is_complete
    for row in summary["searches"]["lambda_reg"]:
        assert f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f} (2)" in html.texts
    best = summary["best"]["label"]
    assert f"lambda_reg {best}" in html.texts
    (accuracies,) = summary["test"].values()
    assert f"{100 * accuracies[0]:.1f} (1) %" in html.texts
    assert f"lambda_reg: {float(best)}" in html.text
    assert len(html.pictures("condensed ")) == 10
    assert len(html.all("svg")) == 1
    assert "validation accuracy, %" in html.texts
    config = json.dumps(summary["best"]["options"])
    assert config
    for text in ("Versions", "Commit", "Seed 0"):
        assert text in html.texts


def test_the_figure_of_a_budget_has_trials_in_their_order(copied):
    write_request(copied, how={"budget": "2", "searcher": "tpe"})
    html, _ = html_of(copied)
    assert {"trial", "best so far"} <= {*html.texts}


def test_a_search_over_an_option_that_has_no_name_of_its_own_has_its_values_below(copied):
    text = (copied / "summary.json").read_text()
    (copied / "summary.json").write_text(text.replace('"lambda_reg": [', '"mine": [', 1))
    html, _ = html_of(copied)
    assert {"mine", "2"} <= {*html.texts}
    assert any("lambda" in one for one in html.texts)


def test_a_search_under_way_shows_its_trials(tmp_path):
    write_request(tmp_path)
    report = {"accuracies": [0.5, 0.6], "iteration": 7}
    trials = [
        {"folder": "lambda_reg/0-0", "status": "done", "reports": [report]},
        {"folder": "lambda_reg/1-0", "status": "running", "reports": []},
    ]
    (tmp_path / "trials.json").write_text(json.dumps({"trials": trials}))
    html, written = html_of(tmp_path)
    assert not written.is_complete
    assert "It goes on with the command that began it and --resume auto --out" in html.text
    assert {"lambda_reg/0-0", "55.0", "running", "1 trial of this search ended so far."} <= {
        *html.texts
    }


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("results.csv", "a,b\n1,2\n", "expected the trials of a search in"),
        ("results.csv", b"\xff\xfe", "expected the trials of a search in"),
        ("summary.json", '{"searches": {"a": [{}]}}', "expected"),
        ("best.yaml", None, "best.yaml"),
    ],
)
def test_damaged_files_are_refused(copied, name, content, told):
    (copied / name).unlink()
    if content is not None:
        (copied / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=told):
        idm_ray.write_report(copied)


def test_names_of_strangers_are_text(copied):
    hostile = "</text><script>alert(1)</script>$\\x$"
    summary = json.loads((copied / "summary.json").read_text())
    summary["title"] = hostile
    for row in summary["searches"]["lambda_reg"]:
        row |= {"label": hostile + row["label"], "options": {hostile: "a", "other": hostile}}
    summary["searches"] = {hostile: summary["searches"]["lambda_reg"]}
    (copied / "summary.json").write_text(json.dumps(summary))
    html, _ = html_of(copied)
    assert len(html.all("script")) == 1
    assert hostile in html.texts
