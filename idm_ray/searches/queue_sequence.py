"""Which networks a run is matched on, by ids and counts; whether two runs see the same ones."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from idm_ray.algorithm.model_queue import ModelQueue
from idm_ray.config import DataConfig, QueueConfig, RunConfig
from idm_ray.methods.catalog import rounds_of

# Of the data: where it is kept, and what is refused, not which images there are.
_NOT_OF_THE_IMAGES: Final = ("strict", "cache", "cache_dir", "cache_limit")
_PRETRAINING: Final = ("pretrained", "pretrain_steps", "pretrained_classes")
# Beside those of the queue.
_OF_THE_RUN: Final = frozenset({"method", "seed", "network", "num_matched_models", "iterations"})
# What a recipe decides those of the queue by.
_OF_THE_RECIPE: Final = frozenset({"recipe", "ipc"})
_NUMERICS: Final = ("device", "precision", "compile", "images_per_pass", "threads")


Counted = tuple[int, bool] | None
"""First training step that counts in a network's accuracy, and whether what it began with does,
too; None: nothing counts, and the accuracy is 0."""
Seen = tuple[tuple[int, int, Counted], ...]
"""The networks matched in an iteration: id, age in training steps, what its accuracy counts.
Weights follow from id and age, the accuracy from all three."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Meter:
    """Which training steps of a network count in its accuracy, as `ModelServer` has it."""

    first: int = 0
    age: int = 0
    has_start: bool

    def reset(self) -> "_Meter":
        return _Meter(first=self.age, age=self.age, has_start=False)

    def add(self, steps: int) -> "_Meter":
        return dataclasses.replace(self, age=self.age + steps)

    @property
    def counted(self) -> Counted:
        return (self.first, self.has_start) if self.has_start or self.first < self.age else None


def matched_networks(
    queue: QueueConfig, *, num_matched_models: int, seed: int, iterations: int
) -> Iterator[Seen]:
    """The networks matched in each iteration of a run, from the queue's real decisions.

    Args:
        queue: of the run.
        num_matched_models: per iteration.
        seed: of the run.
        iterations: of the run.
    """
    policy = ModelQueue(queue, num_matched_models=num_matched_models, seed=seed)
    fresh = _Meter(has_start=queue.pretrained > 0)
    meters = dict.fromkeys(policy.ids, fresh)
    window = queue.accuracy_window
    for iteration in range(iterations):
        if isinstance(window, int) and iteration % window == 0:
            meters = {model: meter.reset() for model, meter in meters.items()}
        plan = policy.plan(iteration)
        for model in plan.popped:
            del meters[model]
        meters |= dict.fromkeys(plan.pushed, fresh)
        yield tuple((m, meters[m].age, meters[m].counted) for m in plan.matched)
        for model in plan.trained:
            kept = meters[model].reset() if window == "last" else meters[model]
            meters[model] = kept.add(queue.train_steps)


def networks_of(config: RunConfig) -> Iterator[Seen]:
    """`matched_networks` of a run."""
    condense = config.condense
    return matched_networks(
        config.queue,
        num_matched_models=condense.num_matched_models,
        seed=condense.seed,
        iterations=condense.iterations,
    )


def shared_queue_key(config: RunConfig) -> str | None:
    """A name of the sequence of networks, with their accuracies, that a run is matched on.

    Runs with the same key can be served by one queue: over `lambda_reg`, say, but also where
    options of the queue differ without effect within the iterations of the runs.

    Args:
        config: settled. Where precision, compile, threads or device are still "auto", the runs
            must come to the same `Numerics` as well, or their last bits differ.

    Returns:
        Hexadecimal digits; None for a run whose networks depend on its own images.
    """
    condense, queue = config.condense, config.queue
    if rounds_of(condense) > 1:
        return None
    sequence, has_trained = _digest(
        queue, condense.num_matched_models, condense.seed, condense.iterations
    )
    parts: dict[str, Any] = {
        "sequence": sequence,
        "data": _fields(config.data, without=_NOT_OF_THE_IMAGES),
        "seed": condense.seed,
        "network": condense.network,
        "numerics": {name: getattr(config.machine, name) for name in _NUMERICS},
    }
    if queue.pretrained:
        parts["pretraining"] = {name: getattr(queue, name) for name in _PRETRAINING}
    if queue.pretrained or has_trained:
        parts["training"] = (queue.batch_train, float(queue.lr_net))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def decide_sequence(options: Collection[str]) -> bool:
    """Whether any of some options, by flat name, decides which networks a run is matched on."""
    own = {field.name for field in dataclasses.fields(QueueConfig)}
    return not (own | _OF_THE_RUN | _OF_THE_RECIPE).isdisjoint(options)


# Points that differ elsewhere have the same queue, and half a second of decisions in a long run.
@functools.lru_cache(maxsize=64)
def _digest(
    queue: QueueConfig, num_matched_models: int, seed: int, iterations: int
) -> tuple[str, bool]:
    """Of the sequence; and whether any network in it was trained before it was matched."""
    digest, has_trained = hashlib.sha256(), False
    for seen in matched_networks(
        queue, num_matched_models=num_matched_models, seed=seed, iterations=iterations
    ):
        has_trained = has_trained or any(age for _, age, _ in seen)
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest(), has_trained


def _fields(part: DataConfig, without: Collection[str]) -> Mapping[str, Any]:
    return {k: v for k, v in dataclasses.asdict(part).items() if k not in without}
