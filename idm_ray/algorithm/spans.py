"""Which part of an iteration an operation belongs to: named spans for whoever profiles a run.

They read no clock: without a profiler they cost microseconds, under `torch.profiler` they appear in
the trace as `idm_ray/PART`. Spans lie side by side, never inside each other, so their times add up.
"""

from typing import Literal

from torch.profiler import record_function

Part = Literal["real", "synthetic", "augmentation", "data", "training", "optimiser"]

PREFIX = "idm_ray/"


def span(part: Part) -> record_function:
    """A context, or a decorator, whose operations belong to a part of the iteration.

    Args:
        part: forward passes of real images; forward and backward passes of synthetic ones; their
            augmentation; fetching and normalising real images; forward and backward passes of
            the queue's training; steps of the images and of networks.
    """
    return record_function(PREFIX + part)
