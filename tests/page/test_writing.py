"""Where a page goes, and what is refused; on the real command line."""

import json
import re

import pytest

import idm_ray
from idm_ray.storage import Location
from tests.making_runs import command
from tests.page.making import cell, write_comparison, write_request


def refusal(*words):
    """The one line with which a command is refused."""
    outcome = command("report", *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert re.fullmatch(r"idm-ray: [^\n]+\n", outcome.err), outcome.err
    return outcome.err


@pytest.fixture
def comparison(tmp_path):
    return write_comparison(tmp_path / "compared", [cell()])


def test_the_page_lies_in_the_folder_unless_it_is_to_lie_elsewhere(comparison, tmp_path):
    outcome = command("report", comparison)
    assert outcome.status == 0, outcome.err
    assert outcome.out.startswith(f"page of a comparison in {comparison}/report.html, ")
    other = tmp_path / "new" / "other.html"
    assert command("report", comparison, "--out", other).status == 0
    assert other.read_bytes() == (comparison / "report.html").read_bytes()


def test_json_tells_the_same(comparison):
    found = json.loads(command("report", comparison, "--json", "-").out)
    assert found["out"] == f"{comparison}/report.html"
    assert (found["what"], found["is_complete"], found["notices"]) == ("comparison", True, [])


def test_real_images_are_left_out_if_that_is_asked_for(finished, tmp_path):
    sizes = {}
    for words in ((), ("--no-neighbours",)):
        outcome = command(
            "report", finished, "--out", tmp_path / "page.html", "--overwrite", *words
        )
        assert outcome.status == 0, outcome.err
        sizes[words] = (tmp_path / "page.html").read_text().count("nearest training images of")
    assert sizes == {(): 30, ("--no-neighbours",): 0}


def test_an_earlier_page_is_replaced_only_if_that_is_asked_for(comparison):
    assert command("report", comparison).status == 0
    write_comparison(comparison, [cell(method="herding")])
    assert "found an earlier page; add --overwrite" in refusal(comparison)
    assert command("report", comparison, "--overwrite").status == 0
    assert "herding" in (comparison / "report.html").read_text()


def test_nothing_but_an_earlier_page_is_ever_replaced(comparison, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("<!doctype html>\n<p>mine")
    text = refusal(comparison, "--out", mine, "--overwrite")
    assert "found something else; choose another --out" in text
    assert mine.read_text() == "<!doctype html>\n<p>mine"
    (tmp_path / "folder.html").mkdir()
    assert "found something else" in refusal(comparison, "--out", tmp_path / "folder.html")


def test_a_page_is_called_like_one(comparison, tmp_path):
    assert "expected --out to end in .html, got 'page.txt'" in refusal(
        comparison, "--out", tmp_path / "page.txt"
    )
    assert "out must be a path in UTF-8, got ''" in refusal(comparison, "--out", "")


def test_a_folder_that_holds_nothing_to_tell_of_is_refused(tmp_path):
    expected = "expected the folder of a run, a search or a comparison"
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    assert f"{expected} at {tmp_path}/none, found none;" in refusal(tmp_path / "none")
    assert f"{expected} at {tmp_path}/file, found a file;" in refusal(tmp_path / "file")
    found = "found one without any of search.yaml, config.yaml, results.json; name what --out was"
    assert found in refusal(tmp_path / "folder")
    assert not (tmp_path / "folder" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("summary.json", "{", "expected JSON in"),
        ("summary.json", "[]", "expected an object as it in"),
        ("summary.json", "{}", "expected a finite number as seconds in"),
        ("config.yaml", "[", "expected the YAML of a run in"),
        ("condensed.parquet", "", "condensed.parquet: expected a Parquet file"),
    ],
)
def test_damaged_files_of_a_run_are_refused_in_a_line(finished, tmp_path, name, content, told):
    for file in ("summary.json", "config.yaml", "condensed.parquet"):
        (tmp_path / file).write_bytes((finished / file).read_bytes())
    (tmp_path / name).write_text(content)
    assert told in refusal(tmp_path, "--no-neighbours")


def test_damaged_files_of_a_search_are_refused_in_a_line(tmp_path):
    write_request(tmp_path)
    (tmp_path / "summary.json").write_text('{"searches": 3}')
    assert "expected an object as it in 'searches' of" in refusal(tmp_path)
    (tmp_path / "search.yaml").write_text("3")
    assert "expected what a search was asked in" in refusal(tmp_path)


def test_a_run_in_a_bucket_has_its_page_there(store, finished):
    place = Location.at(f"{store.bucket}/runs/demo")
    for name in ("summary.json", "config.yaml", "condensed.parquet", "metrics.jsonl"):
        (place / name).write_bytes((finished / name).read_bytes())
    written = idm_ray.write_report(place.address)
    assert written.out == f"{store.bucket}/runs/demo/report.html"
    assert written.notices == ()
    local = finished / "local.html"
    idm_ray.write_report(finished, out=local)
    remote = (place / "report.html").read_bytes().decode()
    assert remote.replace(str(place), str(finished)) == local.read_text()
    local.unlink()
