import itertools

import pytest

from idm_ray.searches.rungs import FACTOR, first_rung, rungs


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [(1, ()), (2, (1,)), (3, (1,)), (4, (1, 3)), (9, (1, 3)), (40, (4, 12)), (1000, (111, 333))],
)
def test_a_ninth_and_a_third_of_a_run_are_its_rungs(iterations, expected):
    assert rungs(iterations) == expected


@pytest.mark.parametrize("iterations", range(1, 100))
def test_rungs_begin_with_the_first_grow_by_the_factor_and_end_before_the_run(iterations):
    found = rungs(iterations)
    assert found[:1] in ((), (first_rung(iterations),))
    assert all(later == FACTOR * earlier for earlier, later in itertools.pairwise(found))
    assert all(1 <= at < iterations for at in found)
