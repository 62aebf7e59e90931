"""How many iterations go into one call: a pure decision, on which no number of a run depends."""

# Iterations whose snapshots may exist at once: enough that neither side waits for the other's
# hiccups, few enough that the object store holds little (1.3 MB each for ConvNet-3).
WINDOW = 16

# Calls under way per class actor: one computes, one is ready to start.
CALLS_PER_ACTOR = 2

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
