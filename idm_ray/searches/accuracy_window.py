"""Over which trainings the accuracy of a network is taken (Eq. 4 leaves it open)."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option

# After so many iterations the published runs evaluate, which resets their meters as well.
PUBLISHED_RESETS = (100, 500)


def values(config: RunConfig) -> list[str | int]:
    """The last training, two resets, the whole life; resets as published, or within a short run."""
    iterations = config.condense.iterations
    short = (max(1, iterations // 10), max(1, iterations // 4))
    resets = PUBLISHED_RESETS if iterations > max(PUBLISHED_RESETS) else short
    own = config.queue.accuracy_window
    return ["last", *sorted({*resets, *([own] if isinstance(own, int) else [])}), "lifetime"]


SEARCH = of_option(
    "accuracy_window",
    "accuracy of a network: its last training, since a reset every N iterations, or its life",
    values,
    Axis(label="accuracy window", scale="bars"),
)
