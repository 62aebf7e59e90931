import json

import pytest

from idm_ray.execution import Standing
from idm_ray.progress import Announcement
from idm_ray.searches.job import News
from idm_ray.storage import Location
from idm_ray.tuning.drawn import is_left
from idm_ray.tuning.logbook import Logbook, Past, read_past
from idm_ray.tuning.request import Budget
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


def goes_on(folder, *, now=lambda: 0.0):
    """A log of a search that goes on, and what it is told."""
    place = Location.at(folder)
    return Logbook(place, begin, lambda event: None, total=3, past=read_past(place), clock=now)


def test_the_time_that_a_search_took_before_it_was_interrupted_counts(tmp_path):
    now = [100.0]
    for took_s in (7.0, 5.0):
        log = goes_on(tmp_path, now=lambda: now[0])
        now[0] += took_s
        log(news(0))
    past = read_past(Location.at(tmp_path))
    assert past.seconds == 12.0
    assert is_left(Budget(seconds=13.0), past, is_complete=False)
    assert not is_left(Budget(seconds=12.0), past, is_complete=False)
    assert is_left(Budget(trials=3), past, is_complete=False)
    assert not is_left(Budget(trials=3), past, is_complete=True)


def test_the_first_news_after_an_interruption_loses_nothing(logbook, tmp_path):
    for number in range(3):
        logbook(news(number))
        logbook(news(number, metrics=report(9, complete=True)))
    logbook(news(0, "done"))
    logbook(news(2, "stopped"))
    before = read_past(Location.at(tmp_path))
    goes_on(tmp_path)(news(1))
    after = read_past(Location.at(tmp_path))
    assert after.drawn == before.drawn
    assert (after.trials[0], after.trials[2]) == (before.trials[0], before.trials[2])
    # Everything is told anew of the one that had not ended.
    assert after.trials[1]["reports"] == []


def test_what_has_ended_stays_as_it_was_whatever_is_told_of_it_again(logbook, tmp_path):
    logbook(news(0))
    logbook(news(0, metrics=report(9, 0.75, complete=True)))
    logbook(news(0, "done"))
    before = read_past(Location.at(tmp_path))
    log = goes_on(tmp_path)
    log(news(0))
    log(news(0, metrics=report(1, 0.1)))
    log(news(0, "stopped"))
    (result,) = log.results
    assert (result.status, result.accuracies, result.iterations) == ("done", (0.75,), 9)
    log(news(1))
    assert read_past(Location.at(tmp_path)).trials[0] == before.trials[0]


def test_a_store_that_fails_is_told_of_once_and_ends_no_search(tmp_path, told, monkeypatch):
    place = Location.at(tmp_path)
    log = Logbook(place, begin, told.append, total=2)

    def full(location):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Location, "atomic_write", full)
        log(news(0))
        log(news(1))
    assert len([event for event in told if isinstance(event, Announcement)]) == 1
    log(news(0, "done"))
    assert [trial["status"] for trial in read_past(place).trials] == ["done", "running"]
