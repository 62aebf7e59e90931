import pytest

from idm_ray.pace import (
    CALL_S,
    CALLS_PER_ACTOR,
    MAX_REPORTS,
    WINDOW,
    iterations_per_call,
    iterations_per_report,
    iterations_remembered,
    stragglers,
)


@pytest.mark.parametrize(
    ("seconds", "iterations"),
    [(float("inf"), 1), (25.0, 1), (CALL_S, 1), (CALL_S / 2, 2), (CALL_S / 5, 5), (0.0, 8)],
)
def test_a_call_is_as_short_as_it_may_be(seconds, iterations):
    assert iterations_per_call(seconds, 16) == iterations


@pytest.mark.parametrize("window", [1, 2, 3, WINDOW, 64])
def test_the_calls_of_an_actor_never_need_more_than_the_window(window):
    for seconds in (0.0, 1e-9, 1e-3, 1.0):
        iterations = iterations_per_call(seconds, window)
        assert iterations >= 1
        assert iterations * CALLS_PER_ACTOR <= max(window, CALLS_PER_ACTOR)


def test_longer_iterations_never_make_more_of_them_a_call():
    found = [iterations_per_call(ms / 1000, WINDOW) for ms in range(300)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == 8


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0], {}),
        ([1.0, 1.9], {}),
        ([1.0, 3.0], {1: 3.0}),
        ([5.0, 1.0, 1.2, 0.8], {0: 5.0}),
        ([4.0, 1.0, 4.0, 1.0, 1.0], {0: 4.0, 2: 4.0}),
        ([0.0, 0.0, 0.0], {}),
    ],
)
def test_a_straggler_is_much_slower_than_the_others(seconds, expected):
    assert stragglers(seconds) == expected


@pytest.mark.parametrize("iterations", [1, 60, 499, 20_000])
def test_what_is_remembered_covers_a_window_and_a_line_of_the_log(iterations):
    assert iterations_remembered(iterations) == WINDOW + iterations_per_report(iterations)
    assert iterations / iterations_per_report(iterations) < 2 * MAX_REPORTS
