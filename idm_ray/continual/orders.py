"""In which order classes come, and which of them at which step; pure decisions."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from idm_ray.checks import wrong

# NumPy's legacy generator takes no other seeds.
_LARGEST_SEED: Final = 2**32 - 1
# A class is condensed, or selected from, by what tells it from others of its step.
_FEWEST: Final = 2


def class_order(seed: int, num_classes: int) -> tuple[int, ...]:
    """The labels of all classes in the order in which they come.

    Args:
        seed: of the order; for 100 classes, 0 gives 26, 86, 2, 55, 75, ...
        num_classes: of the data.

    Source: Sec. 5.6, "the same class order to DM": in the published code NumPy's legacy `seed` and
    `permutation`.
    """
    # A generator of its own with the numbers of the global one.
    return tuple(map(int, np.random.RandomState(seed).permutation(num_classes)))


def cut(order: Sequence[int], steps: int) -> tuple[tuple[int, ...], ...]:
    """The labels of each step; where steps cannot be equal, the first have one class more."""
    return tuple(tuple(map(int, labels)) for labels in np.array_split(np.array(order), steps))


def check_steps(steps: int, num_classes: int) -> None:
    """Refuse more steps than there are classes for.

    Raises:
        UserError: a step would have fewer than two classes.
    """
    most = num_classes // _FEWEST
    if steps > most:
        raise wrong(
            "steps", steps, f"at most {most} for {num_classes} classes, {_FEWEST} or more to a step"
        )


def check_seeds(first: int, orders: int) -> None:
    """Refuse seeds that the published way to draw an order does not take.

    Args:
        first: seed of the first order; the others follow.
        orders: how many.

    Raises:
        UserError: the last one is too large.
    """
    most = _LARGEST_SEED - orders + 1
    if first > most:
        raise wrong("seed", first, f"at most {most} for {orders} class orders")
