import pytest

from idm_ray.estimation.timing import MIN_SAMPLES, Timing, is_steady, summarise


def test_the_first_time_is_told_apart_from_the_mean_of_the_others():
    found = summarise(10.0, [2.0, 4.0], per=2)
    # The deviation of 2 and 4 is sqrt(2), the error of their mean 1, a third of it.
    expected = Timing(first_s=7.0, each_s=1.5, error=pytest.approx(1 / 3), samples=2)
    assert found == expected


def test_a_first_time_that_is_not_longer_costs_nothing_more():
    assert summarise(1.0, [2.0]) == Timing(first_s=0.0, each_s=2.0, error=None, samples=1)


def test_without_a_sample_nothing_is_known():
    assert not is_steady([], 0.0)


def test_measuring_ends_when_the_time_is_over():
    assert is_steady([1.0, 9.0], 10.0)
    assert not is_steady([1.0, 8.9], 10.0)


def test_measuring_ends_early_when_the_mean_is_known():
    equal = [1.0] * MIN_SAMPLES
    assert is_steady(equal, 2.0 * MIN_SAMPLES)
    assert not is_steady(equal[1:], 2.0 * MIN_SAMPLES)
    assert not is_steady(equal, 3.0 * MIN_SAMPLES)  # too short: a neighbour may come
    assert not is_steady([0.1, 1.9] * (MIN_SAMPLES // 2), 2.0 * MIN_SAMPLES)
