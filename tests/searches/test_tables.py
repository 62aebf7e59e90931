import io

from rich.console import Console

from idm_ray.recorded_queue import Counts
from idm_ray.searches.catalog import SEARCHES, listing
from idm_ray.searches.finding import with_values
from idm_ray.searches.same_runs import select
from idm_ray.searches.trials import tabulate, tabulate_grid
from idm_ray.storage import Location
from idm_ray.tables.searches import search_table, searches_table, tuned_tables
from idm_ray.tuning.conclusion import Found, Tuned
from tests.searches.making import config_of, trial


def printed(table, width=140):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


def rows(text):
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_the_list_of_searches_says_what_each_would_try():
    text = printed(searches_table(listing(config_of(iterations=40))), width=300)
    found = {row[0]: row for row in rows(text)}
    assert set(found) == set(SEARCHES)
    assert found["queue_size"][2:] == ["4, 6, 8, 11", "Fig. 7"]


def test_a_search_is_shown_with_its_best_its_default_and_what_was_not_run():
    search = with_values("queue_size", "4,8,60,100")
    selection = select(search, config_of(iterations=40), (0, 1))
    results = [
        trial("4", 0, (0.7, 0.8), options={"queue_size": 4}),
        trial("4", 1, (), status="failed", cause="no [red] memory"),
        trial("60", 0, (0.9, 0.9), options={"queue_size": 60}),
        trial("60", 1, (0.8, 0.8), options={"queue_size": 60}),
    ]
    table = search_table(
        search,
        tabulate_grid(selection, results),
        title="digits, 1 per class",
        split="validation",
        own=selection.own,
    )
    text = printed(table)
    assert "digits, 1 per class" in text
    assert [c.header for c in table.columns][:4] == [
        "queue_size",
        "validation accuracy, %",
        "seed 0",
        "seed 1",
    ]
    assert rows(text) == [
        ["4", "75.0 ± 5.0", "75.0", "-", "2", "25 s", "failed: no [red] memory"],
        ["8", "-", "-", "-", "-", "-", ""],
        ["60", "85.0 ± 5.0", "90.0", "80.0", "4", "25 s", "best"],
        ["100", "85.0 ± 5.0", "90.0", "80.0", "4", "-", "default; the same run as 60"],
    ]


def test_stopped_trials_say_where():
    stopped = trial("1", status="stopped", accuracies=(0.5,), iterations=10)
    text = printed(
        search_table(SEARCHES["all"], tabulate([stopped]), title="digits", split="validation")
    )
    assert rows(text) == [["1", "-", "-", "12 s", "stopped at iteration 10"]]


def tuned(folder, results, *, is_drawn=False, **changes):
    """What a search over the regularization found."""
    search, rows = SEARCHES["lambda_reg"], tabulate(results)
    found = Found(search=search, rows=rows, results=results, own="0.5", is_drawn=is_drawn)
    fields = {
        "folder": Location.at(folder),
        "title": "digits, 1 per class",
        "found": [found],
        "best": (search, rows[-1]),
        "test": {},
        "baselines": {},
        "queues": (),
    }
    return Tuned(**{**fields, **changes})


def test_what_was_found_is_shown_with_what_it_is_to_be_compared_with(tmp_path):
    baseline = {"mean": 0.5, "std": 0.1, "repeats": 2}
    found = tuned(
        tmp_path,
        [trial("0.1"), trial("0.5")],
        test={0: [0.8, 0.9], 1: [0.7]},
        baselines={"start": baseline, "random": baseline | {"mean": 0.4}},
        queues=(Counts(trained=40, served=80), Counts(trained=40, served=40)),
    )
    table, *lines = tuned_tables(found)
    assert [row[0] for row in rows(printed(table))] == ["0.1", "0.5"]
    assert lines == [
        "random real images: 40.0 ± 10.0 % of validation images",
        "its own start: 50.0 ± 10.0 % of validation images",
        "2 shared queues: trained 80 iterations, served 120",
        "best: lambda_reg, 0.5",
        "seed 0 on test images: 85.0 ± 5.0 %",
        "seed 1 on test images: 70.0 %",
        f"tables, figures and best.yaml in {tmp_path}",
    ]


def test_a_best_setting_whose_runs_did_not_end_is_said_not_to_be_tested(tmp_path):
    _, *lines = tuned_tables(tuned(tmp_path, [trial("0.5")]))
    assert lines[:2] == [
        "best: lambda_reg, 0.5",
        "no run with it came to its end: not tested on test images",
    ]


def test_drawn_trials_are_shown_by_how_far_they_came_and_how_good_they_are(tmp_path):
    results = [
        trial("0.1", status="stopped", iterations=4, accuracies=(0.99,)),
        trial("0.2", accuracies=(0.6,)),
        trial("0.5", accuracies=(0.7,)),
    ]
    table, *_ = tuned_tables(tuned(tmp_path, results, is_drawn=True))
    assert [row[0] for row in rows(printed(table))] == ["0.5", "0.2", "0.1"]
