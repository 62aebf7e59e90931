"""Statistics of what was timed; no clock here."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# A mean is known when its standard error is below this part of it, from so many samples that took
# this part of the time there is: neighbours on a machine come and go.
STEADY, MIN_SAMPLES, MIN_PART = 0.02, 8, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long something takes that is done again and again.

    Attributes:
        first_s: what the first time takes longer than the others.
        each_s: mean of the others.
        error: standard error of the mean as a part of it; None from a single sample.
        samples: how many there are.
    """

    first_s: float = 0.0
    each_s: float = 0.0
    error: float | None = None
    samples: int = 0


def summarise(first_s: float, others_s: Sequence[float], *, per: float = 1) -> Timing:
    """A timing from what was measured.

    Args:
        first_s: the first time.
        others_s: the others, at least one.
        per: units of work that each time did; the mean is of one of them.
    """
    mean = statistics.fmean(others_s)
    error = None
    if len(others_s) > 1:
        error = statistics.stdev(others_s) / math.sqrt(len(others_s)) / mean
    return Timing(
        first_s=max(0.0, first_s - mean), each_s=mean / per, error=error, samples=len(others_s)
    )


def is_steady(samples_s: Sequence[float], budget_s: float) -> bool:
    """Whether samples are enough: the time is over, or their mean is known well."""
    if not samples_s or sum(samples_s) >= budget_s:
        return bool(samples_s)
    if len(samples_s) < MIN_SAMPLES or sum(samples_s) < MIN_PART * budget_s:
        return False
    error = summarise(0.0, samples_s).error
    return error is not None and error < STEADY
