"""How often a fresh network enters the queue; published are 5, 30 and 50."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option, whole_multiples


def values(config: RunConfig) -> list[int]:
    """A fifth to four times the run's interval."""
    return whole_multiples(config.queue.push_interval, (0.2, 0.5, 1, 2, 4))


SEARCH = of_option(
    "push_interval",
    "iterations from one pushed network to the next",
    values,
    Axis(label="iterations per push", scale="log"),
)
