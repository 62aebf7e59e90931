"""Carries out the model queue's decisions: makes, trains and serves networks.

Training reads real images only, so the networks served for iterations 0, 1, 2, ... are one fixed
sequence, whatever the synthetic images do meanwhile.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.model_queue import IterationPlan, ModelQueue
from idm_ray.algorithm.model_start import ModelStart, draw_start
from idm_ray.algorithm.networks import Network, init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import span
from idm_ray.algorithm.state import (
    FloatArray,
    ModelState,
    ModelVersion,
    Pretrained,
    QueueState,
    VersionKey,
)
from idm_ray.algorithm.steps import TrainMetrics, train_step
from idm_ray.config import QueueConfig
from idm_ray.errors import NonFiniteLossError

TrainingBatches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(model id, step of that model) -> normalised images (B, C, H, W) and labels (B,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A network as it was when it was sampled.

    Attributes:
        model: id of the network.
        weights: (P,) float32, all parameters as one vector; a read-only view where it was fetched
            from shared memory.
        accuracy: training accuracy within the configured window, a fraction; 0 if not trained.
        age: training steps the network has had in the queue.
    """

    model: int
    weights: np.ndarray[Any, np.dtype[np.float32]]
    accuracy: float
    age: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueReport:
    """The queue at one iteration.

    Attributes:
        iteration: counting from 0.
        size: networks in the queue.
        ages: training steps in the queue of the networks that were matched.
        accuracies: their training accuracy when they were matched, fractions.
        trained: the training after the matching.
    """

    iteration: int
    size: int
    ages: tuple[int, ...]
    accuracies: tuple[float, ...]
    trained: TrainMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """A network of the queue: flat weights and momentum on the device, and its meter.

    Training makes another one of it, so that earlier states of the queue stay what they were.
    """

    weights: Tensor
    velocity: Tensor
    lr: float
    correct: int = 0
    seen: int = 0
    age: int = 0

    @property
    def accuracy(self) -> float:
        """Training accuracy within the window, a fraction; 0 before any training."""
        return self.correct / self.seen if self.seen else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """The queue between two iterations, with its networks on the device."""

    iteration: int
    next_id: int
    models: Mapping[int, _Model]


class ModelServer:
    """The model queue with its networks.

    Its state can be taken from another thread while networks are trained: it remembers where it
    was, as far back as `release` allows.

    Args:
        config: of the queue.
        network: unallocated; its architecture is that of all models.
        numerics: where and how to compute.
        batches: real images to train on, keyed by model and step.
        num_matched_models: models matched per iteration.
        seed: of the run.
        pretrained: networks that models start from, as many as the configuration says.
    """

    def __init__(
        self,
        config: QueueConfig,
        network: Network,
        numerics: Numerics,
        batches: TrainingBatches,
        *,
        num_matched_models: int,
        seed: int,
        pretrained: Sequence[Pretrained] = (),
    ) -> None:
        assert len(pretrained) == config.pretrained, "the set is whole"
        self._config = config
        self._pretrained = pretrained
        self._network = FlatNetwork(network, numerics)
        self._batches = batches
        self._seed = seed
        self._queue = ModelQueue(config, num_matched_models=num_matched_models, seed=seed)
        self._models = {model: self._start(model) for model in self._queue.ids}
        self._past = deque([self._moment(0)])
        self._plan: IterationPlan

    def begin(self, iteration: int) -> tuple[Snapshot, ...]:
        """Push, pop and sample for an iteration; to be called for 0, 1, 2, ... in order.

        Returns:
            Snapshots of the networks to match, as they are before this iteration's training.
        """
        window = self._config.accuracy_window
        if isinstance(window, int) and iteration % window == 0:
            self._models = {
                model_id: replace(model, correct=0, seen=0)
                for model_id, model in self._models.items()
            }
        self._plan = self._queue.plan(iteration)
        for model_id in self._plan.popped:
            del self._models[model_id]
        for model_id in self._plan.pushed:
            self._models[model_id] = self._start(model_id)
        return tuple(self._snapshot(model_id) for model_id in self._plan.matched)

    def due(self) -> Iterator[tuple[int, int]]:
        """The batches (model, step) of the training that comes next, in their order."""
        return self._steps(self._plan, trained_before=())

    def due_after(self, iteration: int) -> Iterator[tuple[int, int]]:
        """The batches (model, step) that `due` will give in the iteration after this one.

        Args:
            iteration: which `begin` was called for last, and `train` not yet.
        """
        return self._steps(self._queue.peek(iteration + 1), trained_before=self._plan.trained)

    def _steps(
        self, plan: IterationPlan, *, trained_before: Collection[int]
    ) -> Iterator[tuple[int, int]]:
        steps = self._config.train_steps
        for model_id in plan.trained:
            age = self._models[model_id].age if model_id in self._models else 0
            first = age + steps * (model_id in trained_before)
            yield from ((model_id, step) for step in range(first, first + steps))

    def train(self, iteration: int) -> QueueReport:
        """Train the networks chosen for an iteration; to be called after its `begin`.

        Source: Train in Sec. 4.2; Alg. 1, line 7.
        """
        matched = [self._models[model_id] for model_id in self._plan.matched]
        ages = tuple(model.age for model in matched)
        accuracies = tuple(model.accuracy for model in matched)
        metrics = TrainMetrics()
        for model_id in self._plan.trained:
            metrics += self._train_model(model_id)
        self._past.append(self._moment(iteration + 1))
        return QueueReport(
            iteration=iteration,
            size=len(self._models),
            ages=ages,
            accuracies=accuracies,
            trained=metrics,
        )

    def state(
        self, known: Collection[VersionKey] = ()
    ) -> tuple[QueueState, dict[VersionKey, ModelVersion]]:
        """What decides the future, as it was at the earliest moment that is remembered.

        Args:
            known: networks whose weights are not wanted.

        Returns:
            The queue, and the weights and velocities of its other networks.
        """
        moment = self._past[0]
        states = {
            model_id: ModelState(
                model=model_id, age=model.age, correct=model.correct, seen=model.seen
            )
            for model_id, model in moment.models.items()
        }
        versions = {
            state.version: ModelVersion(
                weights=moment.models[model_id].weights.cpu().numpy(),
                velocity=moment.models[model_id].velocity.cpu().numpy(),
            )
            for model_id, state in states.items()
            if state.version not in known
        }
        queue = QueueState(
            iteration=moment.iteration, next_id=moment.next_id, models=tuple(states.values())
        )
        return queue, versions

    def release(self, iteration: int) -> None:
        """Forget what was before an iteration; states that are asked for are not before it."""
        while len(self._past) > 1 and self._past[1].iteration <= iteration:
            self._past.popleft()

    def restore(self, state: QueueState, versions: Mapping[VersionKey, ModelVersion]) -> None:
        """Go back, or on, to a state that `state` gave; `versions` has all its networks."""
        self._queue.restore([model.model for model in state.models], state.next_id)
        self._models = {
            model.model: _Model(
                weights=self._on_device(versions[model.version].weights),
                velocity=self._on_device(versions[model.version].velocity),
                lr=self._draw(model.model).lr,
                correct=model.correct,
                seen=model.seen,
                age=model.age,
            )
            for model in state.models
        }
        self._past = deque([self._moment(state.iteration)])

    def _moment(self, iteration: int) -> _Moment:
        # Fresh networks are dropped by the next iteration whatever becomes of them.
        models = dict(self._models) if self._config.queue_size else {}
        return _Moment(iteration=iteration, next_id=self._queue.next_id, models=models)

    def _train_model(self, model_id: int) -> TrainMetrics:
        model = self._models[model_id]
        self._network.load(model.weights)
        velocity = model.velocity.clone()
        steps = []
        for step in range(model.age, model.age + self._config.train_steps):
            with span("data"):
                images, labels = self._batches(model_id, step)
            steps.append(train_step(self._network, images, labels, velocity, lr=model.lr))
        metrics = TrainMetrics.total(steps)
        if not math.isfinite(metrics.loss):
            raise NonFiniteLossError(
                f"the training loss of model {model_id} is not finite after {step + 1} steps; "
                "lower lr_net, or use precision float32"
            )
        only_last = self._config.accuracy_window == "last"
        self._models[model_id] = replace(
            model,
            weights=self._network.weights.clone(),
            velocity=velocity,
            correct=metrics.correct + (0 if only_last else model.correct),
            seen=metrics.images + (0 if only_last else model.seen),
            age=model.age + self._config.train_steps,
        )
        return metrics

    def _start(self, model_id: int) -> _Model:
        """A fresh random network, or a copy of a pretrained one with its last accuracy."""
        start = self._draw(model_id)
        velocity = torch.zeros_like(self._network.weights)
        if start.member is None:
            init_parameters(self._network.network, generator(self._seed, "init", model_id))
            weights = self._network.weights.clone()
            return _Model(weights=weights, velocity=velocity, lr=start.lr)
        source = self._pretrained[start.member]
        return _Model(
            weights=self._on_device(source.weights),
            velocity=velocity,
            lr=start.lr,
            correct=source.correct,
            seen=source.images,
        )

    def _draw(self, model_id: int) -> ModelStart:
        num_classes = self._network.network.head.out_features
        return draw_start(self._config, model_id, num_classes=num_classes, seed=self._seed)

    def _on_device(self, array: FloatArray) -> Tensor:
        # A copy: the array may be a read-only view of shared memory.
        return torch.from_numpy(array.copy()).to(self._network.weights.device)

    def _snapshot(self, model_id: int) -> Snapshot:
        model = self._models[model_id]
        return Snapshot(
            model=model_id,
            weights=model.weights.cpu().numpy(),
            accuracy=model.accuracy,
            age=model.age,
        )
