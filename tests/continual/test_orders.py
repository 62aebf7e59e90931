"""In which order classes come: the published one, cut into steps."""

import numpy as np
import pytest

from idm_ray.continual.orders import check_seeds, check_steps, class_order, cut
from idm_ray.errors import UserError


def test_orders_are_the_published_ones():
    assert class_order(0, 100)[:5] == (26, 86, 2, 55, 75)
    state = np.random.get_state()
    try:
        for seed, num_classes in ((0, 100), (4, 100), (3, 10)):
            np.random.seed(seed)
            published = np.random.permutation(num_classes)
            assert class_order(seed, num_classes) == tuple(published)
    finally:
        np.random.set_state(state)


def test_an_order_leaves_numpy_s_own_generator_alone():
    before = np.random.get_state()[1].copy()
    class_order(7, 100)
    assert (np.random.get_state()[1] == before).all()


@pytest.mark.parametrize(
    ("num_classes", "steps", "sizes"),
    [(100, 5, [20] * 5), (100, 10, [10] * 10), (10, 3, [4, 3, 3]), (10, 4, [3, 3, 2, 2])],
)
def test_steps_part_the_classes_into_sizes_that_differ_by_one_at_most(num_classes, steps, sizes):
    order = class_order(1, num_classes)
    parts = cut(order, steps)
    assert [len(part) for part in parts] == sizes
    assert sum(parts, ()) == order
    assert sorted(order) == list(range(num_classes))


def test_a_step_has_two_classes_or_more():
    check_steps(5, 10)
    with pytest.raises(UserError, match=r"steps must be at most 5 for 10 classes, .* got 6"):
        check_steps(6, 10)
    with pytest.raises(UserError, match="at most 3 for 7 classes"):
        check_steps(9, 7)


def test_seeds_are_such_as_the_published_way_takes():
    check_seeds(2**32 - 5, 5)
    class_order(2**32 - 1, 4)
    with pytest.raises(UserError, match="seed must be at most 4294967291 for 5 class orders"):
        check_seeds(2**32 - 4, 5)
