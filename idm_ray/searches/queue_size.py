"""How many networks the queue holds (Fig. 7)."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option

PAPER = (60, 80, 100, 120, 140)
_SHORT_GRID = 4


def values(config: RunConfig) -> list[int]:
    """The paper's and the run's, or in a run that never fills so many, what it can fill."""
    queue = config.queue
    pushes = -(-config.condense.iterations // queue.push_interval)
    least, most = queue.queue_init + 1, queue.queue_init + pushes
    if most < max(PAPER):
        return [least + (most - least) * n // (_SHORT_GRID - 1) for n in range(_SHORT_GRID)]
    # Without a queue the run has no size of its own.
    own = {queue.queue_size} if queue.queue_size else set()
    return sorted(size for size in {*PAPER, *own} if size >= queue.queue_init)


SEARCH = of_option(
    "queue_size",
    "largest number of networks in the queue, N_max",
    values,
    Axis(label=r"queue size $N_{max}$", scale="linear", source="Fig. 7"),
)
