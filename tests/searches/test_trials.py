import numpy as np
import pytest

from idm_ray.searches.finding import with_values
from idm_ray.searches.same_runs import select
from idm_ray.searches.trials import best_row, tabulate, tabulate_grid
from tests.searches.making import config_of, trial


def test_a_row_is_over_all_networks_of_all_seeds():
    (row,) = tabulate([trial(seed=1, accuracies=(0.7, 0.8)), trial(seed=0, accuracies=(0.9, 1.0))])
    assert row.mean == pytest.approx(np.mean([0.7, 0.8, 0.9, 1.0]))
    assert row.std == pytest.approx(np.std([0.7, 0.8, 0.9, 1.0]))
    assert list(row.seed_means.items()) == [(0, pytest.approx(0.95)), (1, pytest.approx(0.75))]
    assert (row.networks, row.num_seeds, row.seconds, row.iterations) == (4, 2, 25.0, 40)
    assert (row.label, row.options) == ("0.5", {"lambda_reg": 0.5})


def test_rows_come_in_the_order_of_their_first_trial():
    rows = tabulate([trial("1"), trial("0.1"), trial("1", seed=1)])
    assert [row.label for row in rows] == ["1", "0.1"]


def test_trials_without_an_end_do_not_count_and_say_why():
    failed = trial(seed=1, status="failed", cause="no memory", accuracies=(), iterations=3)
    stopped = trial(seed=2, status="stopped", accuracies=(0.1,), iterations=20)
    (row,) = tabulate([failed, stopped, trial(accuracies=(0.5,))])
    assert (row.mean, row.std, row.networks, row.num_seeds) == (0.5, 0.0, 1, 1)
    assert (row.causes, row.stopped, row.seconds) == (("no memory",), 1, 37.5)
    (row,) = tabulate([failed])
    assert (row.mean, row.networks, row.causes) == (None, 0, ("no memory",))


def test_a_grid_has_a_row_for_every_point():
    search = with_values("queue_size", "60,4,140,8")
    selection = select(search, config_of(iterations=40), (0, 1))
    results = [
        trial("4", options={"queue_size": 4}, accuracies=(0.7,)),
        trial("60", options={"queue_size": 60}, accuracies=(0.9,)),
    ]
    rows = tabulate_grid(selection, results)
    assert [(row.label, row.mean, row.same_as) for row in rows] == [
        ("60", 0.9, ""),
        ("4", 0.7, ""),
        ("140", 0.9, "60"),
        ("8", None, ""),
    ]
    assert [row.options["queue_size"] for row in rows] == [60, 4, 140, 8]
    assert best_row(rows) is rows[0]


def test_the_best_is_of_those_with_the_most_seeds():
    lucky = trial("9", accuracies=(0.99,))
    pairs = [
        trial(label, seed, (mean,)) for label, mean in (("1", 0.8), ("2", 0.9)) for seed in (0, 1)
    ]
    best = best_row(tabulate([lucky, *pairs]))
    assert best.label == "2"


def test_of_equals_the_first_is_the_best_and_of_none_none():
    assert best_row(tabulate([trial("3"), trial("4")])).label == "3"
    assert best_row(tabulate([trial("3", status="failed", accuracies=())])) is None
    assert best_row([]) is None
