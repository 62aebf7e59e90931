"""The parts of the method, switched on one after the other (Table 2)."""

from collections.abc import Mapping
from typing import Any

from idm_ray.config import CondenseConfig, QueueConfig, RunConfig
from idm_ray.methods.dm import dm_options
from idm_ray.searches.search import Axis, Point, Search


def plain_matching(config: RunConfig) -> Mapping[str, Any]:
    """Plain distribution matching, with its own settings."""
    return {"method": "dm", **dm_options(config.condense.batch_real)}


def queue_alone(config: RunConfig) -> Mapping[str, Any]:
    """The run with its model queue and nothing else."""
    return {
        "method": "idm",
        "queue_size": config.queue.queue_size or QueueConfig().queue_size,
        "lambda_reg": 0.0,
        "partition": 1,
    }


def points(config: RunConfig) -> tuple[Point, ...]:
    """Plain distribution matching, then the run's parts one by one.

    What the run has switched off is switched on with its default.
    """
    condense, has_queue = config.condense, queue_alone(config)
    is_regular = {**has_queue, "lambda_reg": condense.lambda_reg or CondenseConfig().lambda_reg}
    is_whole = {**is_regular, "partition": max(condense.partition, CondenseConfig().partition)}
    return (
        Point(label="DM", options=plain_matching(config)),
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
