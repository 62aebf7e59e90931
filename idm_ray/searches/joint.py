"""The joint space that good settings for new data are searched in."""

from collections.abc import Mapping

from idm_ray.config import CondenseConfig, RunConfig
from idm_ray.searches.search import Axis, Choice, Distribution, LogUniform, Search, Uniform


def distributions(config: RunConfig) -> Mapping[str, Distribution]:
    """Ranges around the run's own settings; what costs most is allowed to become cheaper."""
    condense, queue = config.condense, config.queue
    weight = condense.lambda_reg or CondenseConfig().lambda_reg
    most = queue.queue_init + -(-condense.iterations // queue.push_interval)
    return {
        "lr_img": LogUniform(low=condense.lr_img / 10, high=condense.lr_img * 10),
        "momentum_img": Uniform(low=0.0, high=0.9),
        "lambda_reg": LogUniform(low=weight / 10, high=weight * 10),
        "partition": Choice(values=tuple(sorted({1, 2, 3, condense.partition}))),
        "train_steps": LogUniform(
            low=max(1, queue.train_steps // 5), high=max(2, queue.train_steps * 2)
        ),
        "push_interval": LogUniform(
            low=max(1, queue.push_interval // 5), high=max(2, queue.push_interval * 4)
        ),
        "queue_size": LogUniform(
            low=queue.queue_init, high=max(queue.queue_init + 1, min(queue.queue_size, most))
        ),
    }


SEARCH = Search(
    name="all",
    description="good settings for your own data, within a budget",
    varies=(
        "lr_img",
        "momentum_img",
        "lambda_reg",
        "partition",
        "train_steps",
        "push_interval",
        "queue_size",
    ),
    axis=Axis(label="trial", scale="trials"),
    grid=lambda config: (),
    space=distributions,
)
