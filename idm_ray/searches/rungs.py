"""Where trials of a search are compared before their end, so that the worse ones can be stopped."""

from typing import Final

FACTOR: Final = 3
"""One in so many goes on from each rung; the next is so many times as far."""

_RUNGS: Final = 2


def first_rung(iterations: int) -> int:
    """The iteration of the first rung, at least 1."""
    return max(1, iterations // FACTOR**_RUNGS)


def rungs(iterations: int) -> tuple[int, ...]:
    """The iterations of all rungs of a run; none where it is too short."""
    first = first_rung(iterations)
    return tuple(at for n in range(_RUNGS) if (at := first * FACTOR**n) < iterations)
