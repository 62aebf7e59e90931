"""How long networks of the queue are trained each time (Fig. 6, whose axis cannot be read)."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option, whole_multiples


def values(config: RunConfig) -> list[int]:
    """A tenth to twice as many as the run's: more cost more, as nothing else in a run does."""
    return whole_multiples(config.queue.train_steps, (0.1, 0.2, 0.5, 1, 2))


SEARCH = of_option(
    "train_steps",
    "SGD steps per trained network and time, K",
    values,
    Axis(label="training steps K", scale="log", source="Fig. 6"),
)
