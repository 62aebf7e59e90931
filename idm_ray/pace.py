"""How many iterations go into one call: a pure decision, on which no number of a run depends."""

import statistics
from collections.abc import Sequence

# Iterations whose snapshots may exist at once: enough that neither side waits for the other's
# hiccups, few enough that the object store holds little (1.3 MB each for ConvNet-3).
WINDOW = 16

# Calls under way per class actor: one computes, one is ready to start.
CALLS_PER_ACTOR = 2

# So many times as slow as the others, per class: something is wrong with its machine.
STRAGGLING = 2.0

# Lines of a run's log: enough for a smooth curve, few enough to read.
MAX_REPORTS = 500

# A call costs the actor about two milliseconds (docs/scaling.md): so it is two in a hundred.
CALL_S = 0.1


def iterations_per_call(seconds_per_iteration: float, window: int) -> int:
    """As few iterations as make a call long enough that its own cost does not matter.

    Fewer are better otherwise: snapshots reach the actors sooner, and reports the user.

    Args:
        seconds_per_iteration: of the slowest process; infinite while it is unknown.
        window: iterations whose snapshots may exist at once. An actor's calls fill it at most:
            with longer ones the queue would stand still until a whole call is over.
    """
    largest = max(1, window // CALLS_PER_ACTOR)
    if seconds_per_iteration * largest <= CALL_S:
        return largest
    return max(1, round(CALL_S / seconds_per_iteration))


def iterations_per_report(iterations: int) -> int:
    """How many iterations of a run go into one line of its log."""
    return max(1, iterations // MAX_REPORTS)


def iterations_remembered(iterations: int) -> int:
    """How far back, at any time, the log of a run may lack a line that a class actor is beyond."""
    return WINDOW + iterations_per_report(iterations)


def stragglers(seconds: Sequence[float]) -> dict[int, float]:
    """Which of some workers are much slower than the others.

    Args:
        seconds: that each worker takes for a class in an iteration.

    Returns:
        How many times as slow as the median of the others, by number of the worker.
    """
    found = {}
    for number, own in enumerate(seconds):
        others = [*seconds[:number], *seconds[number + 1 :]]
        if others and own > STRAGGLING * statistics.median(others):
            found[number] = own / max(statistics.median(others), 1e-9)
    return found
