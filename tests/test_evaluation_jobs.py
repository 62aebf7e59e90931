import itertools
import random

import numpy as np
import pytest

from idm_ray.config import RunConfig
from idm_ray.evaluation_jobs import (
    all_jobs,
    best_iterate,
    candidates,
    final_jobs,
    marks,
    possible_jobs,
)
from idm_ray.plan import EvaluationJob

SELECTING = {
    "iterations": 9,
    "eval_at": "3,6",
    "repeats": 2,
    "val_fraction": 0.1,
    "select": "validation",
}
TESTED = {"val_fraction": 0.1, "eval_split": "validation"}


def config_of(**options):
    return RunConfig.from_flat(SELECTING | options)


def told(jobs):
    return [(job.subject, job.iteration, job.split) for job in jobs if job.repeat == 0]


def iterates(count, repeats=2, split="validation"):
    return {
        iteration: [
            EvaluationJob(subject="condensed", repeat=repeat, iteration=iteration, split=split)
            for repeat in range(repeats)
        ]
        for iteration in range(1, count + 1)
    }


def results(jobs, *accuracies):
    """Accuracies of some iterates, a tuple for each."""
    found = zip(jobs.values(), accuracies, strict=False)
    return {job: value for own, values in found for job, value in zip(own, values, strict=False)}


# --- Which networks there are ---


def test_copies_and_the_last_iterate_are_tested_on_validation_images_to_select_by():
    config = config_of()
    on_validation = [("condensed", at, "validation") for at in (3, 6, 9)]
    assert told(sum(candidates(config).values(), ())) == on_validation
    assert told(sum(marks(config).values(), ())) == on_validation[:2]


def test_what_is_reported_is_tested_on_the_images_of_the_option():
    by_iterate = {selected: told(final_jobs(config_of(), selected)) for selected in (None, 3, 6, 9)}
    last = [(subject, 9, "eval_split") for subject in ("condensed", "start", "random")]
    assert by_iterate == {
        None: last,
        3: [("condensed", 3, "eval_split"), *last],
        6: [("condensed", 6, "eval_split"), *last],
        9: last,
    }


@pytest.mark.parametrize("options", [{}, TESTED])
def test_without_selecting_no_network_is_tested_on_anything_else(options):
    config = RunConfig.from_flat({"iterations": 9, "eval_at": "3,6", "whole_epochs": 2, **options})
    assert candidates(config) == {}
    assert {job.split for job in possible_jobs(config)} == {"eval_split"}
    assert set(all_jobs(config)) == possible_jobs(config)
    assert told(sum(marks(config).values(), ())) == [
        ("condensed", at, "eval_split") for at in (3, 6)
    ]


def test_all_jobs_are_as_many_as_if_a_copy_were_selected():
    config = config_of(whole_epochs=1)
    jobs = all_jobs(config)
    # Three iterates by which one is selected, the selected one, the last one, two baselines.
    assert len(jobs) == len(set(jobs)) == 2 * (3 + 1 + 1 + 2) + 1
    for selected in (3, 6):
        found = {*final_jobs(config, selected), *sum(candidates(config).values(), ())}
        assert len(found) == len(jobs)
        assert found < possible_jobs(config)


# --- Which iterate is the best ---


def slowly(jobs, evaluated):
    """The earliest of those with the most; accuracies as whole numbers, so nothing is rounded."""
    sums = {at: sum(evaluated[job] for job in own) for at, own in jobs.items()}
    return min(at for at, value in sums.items() if value == max(sums.values()))


def test_the_best_is_that_with_the_largest_mean_and_the_earliest_of_equal_ones():
    draws = np.random.default_rng(0)
    jobs = iterates(6, repeats=3)
    for _ in range(300):
        right = {job: int(draws.integers(0, 4)) for own in jobs.values() for job in own}
        evaluated = {job: count / 7 for job, count in right.items()}
        assert best_iterate(jobs, evaluated) == slowly(jobs, right)


@pytest.mark.parametrize("order", [*itertools.permutations((0.1, 0.2, 0.3))])
def test_means_of_the_same_accuracies_are_equal_in_whatever_order(order):
    jobs = iterates(2, repeats=3)
    assert best_iterate(jobs, results(jobs, (0.3, 0.2, 0.1), order)) == 1


def test_as_many_right_images_are_as_good_however_they_are_spread():
    jobs, later_is_larger = iterates(2), []
    for total, a, b in itertools.product((10, 40, 359, 10_000), range(4), range(4)):
        first, second = (a / total, 3 / total), ((a + 3 - b) / total, b / total)
        assert best_iterate(jobs, results(jobs, first, second)) == 1
        later_is_larger.append(sum(second) > sum(first))
    assert any(later_is_larger)  # as rounded sums are


def test_one_image_more_is_better_even_of_many():
    jobs = iterates(2, repeats=5)
    most = (0.5, 0.5, 0.5, 0.5, (500_000 + 1) / 1_000_000)
    assert best_iterate(jobs, results(jobs, (0.5,) * 5, most)) == 2


def test_an_iterate_has_no_say_until_all_its_networks_are_tested():
    jobs = iterates(3)
    assert best_iterate(jobs, {}) is None
    assert best_iterate(jobs, results(jobs, (0.5,), (1.0,))) is None
    assert best_iterate(jobs, results(jobs, (0.5, 0.5), (1.0,))) == 1
    assert best_iterate(jobs, results(jobs, (0.5, 0.5), (1.0,), (0.6, 0.6))) == 3
    assert best_iterate(jobs, results(jobs, (0.5, 0.5), (1.0, 0.4), (0.6, 0.6))) == 2


def test_accuracies_that_are_reported_select_nothing():
    jobs = iterates(2, split="eval_split")
    assert best_iterate(jobs, results(jobs, (0.5, 0.5), (1.0, 1.0))) is None
    assert best_iterate({}, {}) is None


def test_what_was_not_the_best_never_becomes_it_so_its_copy_can_be_forgotten():
    draws = random.Random(0)
    jobs = iterates(5)
    for _ in range(100):
        evaluated = {job: draws.randrange(4) / 3 for own in jobs.values() for job in own}
        order = list(evaluated)
        draws.shuffle(order)
        beaten: set[int] = set()
        for count in range(len(order) + 1):
            known = {job: evaluated[job] for job in order[:count]}
            best = best_iterate(jobs, known)
            assert best not in beaten
            beaten |= {at for at in jobs if at != best and all(job in known for job in jobs[at])}
