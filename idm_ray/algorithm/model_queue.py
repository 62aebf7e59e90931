"""The model queue's policy (Sec. 4.2): which models exist, are matched, are trained.

Ids and counts only; no tensors. What it decides depends on the configuration, the seed and the
iteration, so that the same plan can be made again at any time and place.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from idm_ray.algorithm.randomness import generator
from idm_ray.config import QueueConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class IterationPlan:
    """What one iteration does to the queue, in this order.

    Attributes:
        popped: ids of models that leave.
        pushed: ids of models that enter; `model_start` says what each begins with.
        matched: ids of the models that the synthetic images are matched on.
        trained: ids of the models that are trained afterwards.
    """

    popped: tuple[int, ...]
    pushed: tuple[int, ...]
    matched: tuple[int, ...]
    trained: tuple[int, ...]


class ModelQueue:
    """First in, first out, of model ids 0, 1, 2, ... in the order of their creation.

    Args:
        config: sizes and intervals; `queue_size` 0 makes fresh models for every iteration.
        num_matched_models: models matched per iteration.
        seed: of the run.
    """

    def __init__(self, config: QueueConfig, *, num_matched_models: int, seed: int) -> None:
        self._config = config
        self._num_matched_models = num_matched_models
        self._seed = seed
        self._ids: deque[int] = deque(range(config.queue_init if config.queue_size else 0))
        self._next_id = len(self._ids)

    @property
    def ids(self) -> tuple[int, ...]:
        """The models in the queue, oldest first."""
        return tuple(self._ids)

    def plan(self, iteration: int) -> IterationPlan:
        """Advance the queue by one iteration: push and pop, then sample, then choose for training.

        Args:
            iteration: counts from 0; to be called once for each, in order.

        Source: Sec. 4.2, in the order of the authors' published code (Alg. 1 pushes at the end).
        """
        if self._config.queue_size == 0:
            return self._plan_fresh_models()
        popped, pushed = self._push() if iteration % self._config.push_interval == 0 else ((), ())
        matched = self._sample(self._num_matched_models, "match", iteration)
        trained: tuple[int, ...] = ()
        if iteration % self._config.train_interval == 0:
            trained = self._sample(self._config.num_trained_models, "train", iteration)
        return IterationPlan(popped=popped, pushed=pushed, matched=matched, trained=trained)

    def peek(self, iteration: int) -> IterationPlan:
        """What `plan` will say of the next iteration; the queue stays as it is."""
        ids, next_id = self._ids.copy(), self._next_id
        plan = self.plan(iteration)
        self._ids, self._next_id = ids, next_id
        return plan

    @property
    def next_id(self) -> int:
        """Of the model that will be made next."""
        return self._next_id

    def restore(self, ids: Iterable[int], next_id: int) -> None:
        """Go back, or on, to where the queue had these models, oldest first, and this next id."""
        self._ids = deque(ids)
        self._next_id = next_id

    def _plan_fresh_models(self) -> IterationPlan:
        fresh = tuple(range(self._next_id, self._next_id + self._num_matched_models))
        popped, self._ids = tuple(self._ids), deque(fresh)
        self._next_id += len(fresh)
        return IterationPlan(popped=popped, pushed=fresh, matched=fresh, trained=())

    def _push(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Make room if the queue is full, then push one new model."""
        popped = (self._ids.popleft(),) if len(self._ids) >= self._config.queue_size else ()
        self._ids.append(self._next_id)
        self._next_id += 1
        return popped, (self._ids[-1],)

    def _sample(self, count: int, purpose: str, iteration: int) -> tuple[int, ...]:
        """Different models, uniformly; all of them if there are no more."""
        order = torch.randperm(len(self._ids), generator=generator(self._seed, purpose, iteration))
        return tuple(self._ids[i] for i in order[:count].tolist())
