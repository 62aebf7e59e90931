"""The parts of the method, switched on one after the other (Table 2)."""

from idm_ray.config import CondenseConfig, QueueConfig, RunConfig
from idm_ray.methods.dm import dm_options
from idm_ray.searches.search import Axis, Point, Search


def points(config: RunConfig) -> tuple[Point, ...]:
    """Plain distribution matching with its own settings, then the run's parts one by one.

    What the run has switched off is switched on with its default.
    """
    condense, queue = config.condense, config.queue
    has_queue = {
        "method": "idm",
        "queue_size": queue.queue_size or QueueConfig().queue_size,
        "lambda_reg": 0.0,
        "partition": 1,
    }
    is_regular = has_queue | {"lambda_reg": condense.lambda_reg or CondenseConfig().lambda_reg}
    is_whole = is_regular | {"partition": max(condense.partition, CondenseConfig().partition)}
    return (
        Point(label="DM", options={"method": "dm", **dm_options(condense.batch_real)}),
        Point(label="+ model queue", options=has_queue),
        Point(label="+ regularization", options=is_regular),
        Point(label="+ partition", options=is_whole),
    )


SEARCH = Search(
    name="components",
    description="the parts of the method, one after the other",
    varies=("method", "queue_size", "lambda_reg", "partition"),
    axis=Axis(label="components", scale="bars", source="Table 2"),
    grid=points,
    space=lambda config: {},
)
