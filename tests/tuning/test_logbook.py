import json

import pytest

from idm_ray.execution import Standing
from idm_ray.searches.job import News
from idm_ray.storage import Location
from idm_ray.tuning.logbook import Logbook, Past, read_past
from idm_ray.tuning.request import Budget
from idm_ray.tuning.tune import TAKE_IN_S, _time_left
from idm_ray.tuning.work import Earlier
from tests.searches.making import trial


def report(iteration, accuracy=0.5, *, complete=False):
    return {
        "accuracy": accuracy,
        "accuracies": [accuracy],
        "iteration": iteration,
        "seconds": 1.5,
        "complete": complete,
    }


def begin(number, drawn):
    blank = {"accuracies": (), "iterations": 0, "seconds": 0.0, "status": "running"}
    return trial(f"trial {number}", options=drawn, folder=f"trials/trial-{number}", **blank)


@pytest.fixture
def told():
    return []


@pytest.fixture
def logbook(tmp_path, told):
    return Logbook(Location.at(tmp_path), begin, told.append, total=2)


def news(number, status="running", metrics=None, cause=""):
    drawn = {"lr_img": number / 10}
    return News(number=number, drawn=drawn, status=status, metrics=metrics, cause=cause)


def test_a_result_is_what_a_trial_told_last(logbook, told):
    logbook(news(1))
    logbook(news(0))
    logbook(news(1, metrics=report(3) | {"trial_id": "of Tune"}))
    logbook(news(1, metrics=report(9, 0.75, complete=True)))
    logbook(news(1, "done"))
    logbook(news(0, "failed", cause="no memory"))
    first, second = logbook.results
    assert (first.status, first.cause, first.accuracies) == ("failed", "no memory", ())
    assert (second.status, second.iterations, second.accuracies) == ("done", 9, (0.75,))
    assert second.seconds == 1.5
    assert len(told) == 6
    assert told[-1] == Standing(trials=(first, second), total=2)


def test_what_was_told_can_be_read_by_a_search_that_goes_on(logbook, tmp_path):
    for number in range(4):
        logbook(news(number))
        logbook(news(number, metrics=report(3) | {"trial_id": "of Tune"}))
    logbook(news(0, "done", report(9, complete=True)))
    logbook(news(1, "stopped"))
    logbook(news(2, "failed", cause="no memory"))
    past = read_past(Location.at(tmp_path))
    assert past.drawn == [{"lr_img": number / 10} for number in range(4)]
    assert past.told == {
        "trials/trial-0": Earlier(reports=[report(3), report(9, complete=True)], has_ended=True),
        "trials/trial-1": Earlier(reports=[report(3)], has_ended=True),
        "trials/trial-2": Earlier(reports=[report(3)], has_ended=False),
        "trials/trial-3": Earlier(reports=[report(3)], has_ended=False),
    }
    written = json.loads((tmp_path / "trials.json").read_text())
    assert written["trials"][2]["cause"] == "no memory"


def test_a_new_search_has_nothing_to_go_on_from(tmp_path):
    assert read_past(Location.at(tmp_path)) == Past()


def test_the_time_that_a_search_took_before_it_was_interrupted_counts(tmp_path):
    now = [100.0]
    for spent_s, took_s in ((0.0, 7.0), (7.0, 5.0)):
        place = Location.at(tmp_path)
        log = Logbook(
            place, begin, lambda event: None, total=1, spent_s=spent_s, clock=lambda: now[0]
        )
        now[0] += took_s
        log(news(0))
    past = read_past(place)
    assert past.seconds == 12.0
    assert _time_left(Budget(seconds=100.0), past) == 88.0
    assert _time_left(Budget(seconds=20.0), past) == TAKE_IN_S
    assert _time_left(Budget(seconds=20.0), Past()) == 20.0
    assert _time_left(Budget(trials=3), past) is None
