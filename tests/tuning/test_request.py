import pytest

from idm_ray.errors import UserError
from idm_ray.tuning.request import (
    Budget,
    Drawing,
    check_loggers,
    options_of_runs,
    parse_budget,
)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("20", Budget(trials=20)),
        (" 1 ", Budget(trials=1)),
        ("2h", Budget(seconds=7200.0)),
        ("1.5 m", Budget(seconds=90.0)),
        ("30s", Budget(seconds=30.0)),
    ],
)
def test_a_budget_is_trials_or_time(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "0", "0h", "-1", "1.5", "2 d", "h", "2h30m", "1e3"])
def test_another_budget_is_refused(text):
    with pytest.raises(UserError, match=r"^budget must be trials such as 20, or time such as "):
        Drawing(budget=text)


def test_a_searcher_that_there_is_not_is_refused():
    with pytest.raises(UserError, match=r"^searcher must be 'tpe' or 'random', got 'cma'$"):
        Drawing(budget="3", searcher="cma")


def test_runs_are_compared_on_validation_images_and_evaluated_at_the_end_alone():
    options = options_of_runs({"ipc": 2, "repeats": 3}, None)
    assert (options["ipc"], options["repeats"]) == (2, 3)
    assert options["eval_split"] == "validation"
    assert options["val_fraction"] > 0
    assert (options["eval_interval"], options["eval_at"], options["local"]) == (0, None, False)


def test_what_a_search_decides_may_be_said_as_it_decides_it():
    assert options_of_runs({"eval_split": "validation"}, None) == options_of_runs({}, None)
    with pytest.raises(UserError, match=r"^expected no eval_split for a search"):
        options_of_runs({"eval_split": "test"}, None)


@pytest.mark.parametrize(
    ("actors", "gpus", "share"), [(1, 1, 0.5), (3, 1, 0.25), (1, 2, 1.0), (1, 5, 2.0), (1, 0, 0)]
)
def test_the_gpus_of_a_trial_are_shared_by_its_actors_and_its_queue(actors, gpus, share):
    assert options_of_runs({"actors": actors}, gpus)["gpus_per_actor"] == share


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(UserError, match=r"^unknown option 'itreations'; did you mean 'iterations'"):
        options_of_runs({"itreations": 3}, None)


def test_a_logger_that_there_is_not_is_refused():
    check_loggers([])
    with pytest.raises(UserError, match=r"^unknown logger 'wand'; did you mean 'wandb'"):
        check_loggers(["wand"])
