import itertools

import pytest
import torch

from idm_ray.algorithm.coresets import (
    greedy_herding,
    most_often_wrong,
    nearest_to_each,
    nearest_to_mean,
)
from idm_ray.algorithm.randomness import generator
from tests.algorithm.making import normal


@pytest.fixture
def features():
    return normal(12, 4, seed=3).float()


def squared(one, other):
    return sum((a - b) ** 2 for a, b in zip(one.tolist(), other.tolist(), strict=True))


def mean_of(rows):
    return torch.stack(list(rows)).double().mean(0)


def test_herding_takes_the_rows_nearest_to_the_mean_nearest_first(features):
    mean = mean_of(features)
    expected = sorted(range(12), key=lambda row: squared(features[row], mean))[:5]
    assert nearest_to_mean(features, 5).tolist() == expected


def test_equals_are_taken_in_their_order():
    assert nearest_to_mean(torch.ones(6, 2), 4).tolist() == [0, 1, 2, 3]
    assert greedy_herding(torch.ones(6, 2), 4).tolist() == [0, 1, 2, 3]


def test_greedy_herding_takes_whatever_brings_the_mean_nearest(features):
    mean, chosen = mean_of(features), []
    for _ in range(6):
        left = [row for row in range(12) if row not in chosen]
        chosen.append(min(left, key=lambda row: squared(mean_of(features[[*chosen, row]]), mean)))
    assert greedy_herding(features, 6).tolist() == chosen


def test_greedy_herding_makes_up_for_what_it_took_before():
    # The mean is 0; after 1 comes -1, not the other 1, which is as near to the mean.
    line = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    assert greedy_herding(line, 2).tolist() == [0, 2]
    assert nearest_to_mean(line, 2).tolist() == [0, 1]


@pytest.mark.parametrize("choose", [nearest_to_mean, greedy_herding])
def test_all_rows_are_chosen_once_when_all_are_wanted(features, choose):
    assert sorted(choose(features, 12).tolist()) == list(range(12))


def wrong(counts):
    """Predictions of as many networks as the largest count, which give these counts."""
    return lambda number: torch.tensor([count > number for count in counts])


def test_forgetting_takes_those_that_are_wrong_most_often():
    counts = [0, 3, 1, 5, 3, 0, 4]
    found = most_often_wrong(wrong(counts), 5, 2, generator("x"))
    assert found.tolist() == [3, 6]


def test_among_equals_forgetting_draws_and_any_of_them_may_come():
    counts, seen = [2, 0, 2, 1, 2], set()
    for seed in range(40):
        found = most_often_wrong(wrong(counts), 2, 4, generator(seed)).tolist()
        assert set(found[:3]) == {0, 2, 4}
        assert found[3] == 3
        seen.add(tuple(found[:3]))
    assert seen == set(itertools.permutations([0, 2, 4]))


def test_forgetting_follows_from_its_draws():
    same = [most_often_wrong(wrong([0] * 9), 1, 3, generator(5)).tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_each_centre_gets_the_nearest_row_that_is_left():
    features = torch.tensor([[0.0], [1.0], [5.0], [9.0]])
    centres = torch.tensor([[0.2], [0.1], [9.0], [8.0]])
    assert nearest_to_each(features, centres).tolist() == [0, 1, 3, 2]
