"""How often networks of the queue are trained; published is 1, the supplement says 30."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option

FROM_CODE_TO_TEXT = (1, 2, 4, 10, 30)


def values(config: RunConfig) -> list[int]:
    """From the published interval to the one of the text, and the run's."""
    return sorted({*FROM_CODE_TO_TEXT, config.queue.train_interval})


SEARCH = of_option(
    "train_interval",
    "iterations from one training of the queue to the next",
    values,
    Axis(label="iterations per training", scale="log"),
)
