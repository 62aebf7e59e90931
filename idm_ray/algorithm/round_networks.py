"""A network for each iteration, trained on the synthetic images between its rounds.

What it learns from an iteration's images is forgotten with the iteration, so that nothing has to be
kept to go on from the next one.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idm_ray.algorithm.augment import augment, draw_per_image
from idm_ray.algorithm.model_server import QueueReport, Snapshot
from idm_ray.algorithm.networks import Network, init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.state import ModelVersion, QueueState, VersionKey
from idm_ray.algorithm.steps import TrainMetrics, train_step
from idm_ray.config import QueueConfig
from idm_ray.errors import NonFiniteLossError


@dataclass(frozen=True, kw_only=True, slots=True)
class _Model:
    """A network of the iteration; its accuracy is that on the images it was trained on last."""

    model: int
    weights: Tensor
    age: int = 0
    accuracy: float = 0.0


class RoundNetworks:
    """Fresh random networks for every iteration, in the place of a model queue.

    Training between rounds is plain SGD on the mean cross-entropy of all synthetic images, without
    momentum or weight decay, each epoch in an order of its own.

    Args:
        config: learning rate and batch size of networks.
        network: unallocated; its architecture is that of all networks.
        numerics: where and how to compute.
        operations: augmentations in training, by the rule of evaluation; none: no augmentation.
        num_matched_models: networks of an iteration.
        inner_epochs: of the training between two rounds.
        seed: of the run.

    Source: DC (ICLR 2021), Alg. 1, with the settings of its published code.
    """

    def __init__(
        self,
        config: QueueConfig,
        network: Network,
        numerics: Numerics,
        *,
        operations: Sequence[str],
        num_matched_models: int,
        inner_epochs: int,
        seed: int,
    ) -> None:
        self._config = config
        self._network = FlatNetwork(network, numerics)
        self._operations = tuple(operations)
        self._num_matched_models = num_matched_models
        self._inner_epochs = inner_epochs
        self._seed = seed
        self._models: tuple[_Model, ...] = ()
        self._round = 0
        self._matched: list[tuple[int, float]] = []
        """Age and accuracy of the networks of each round."""
        self._metrics = TrainMetrics()
        self._released = 0

    def begin(self, iteration: int) -> tuple[Snapshot, ...]:
        """The networks of an iteration's first round; any iteration can be begun at any time."""
        first = self._first_model(iteration)
        self._models = tuple(
            self._start(model) for model in range(first, first + self._num_matched_models)
        )
        self._round, self._matched, self._metrics = 0, [], TrainMetrics()
        return self._snapshots()

    def go_on(self, images: Tensor) -> tuple[Snapshot, ...]:
        """The same networks for the next round of the iteration.

        Args:
            images: (N, C, H, W) all synthetic images as the last round left them, class by class,
                as many of each.

        Raises:
            NonFiniteLossError: a network diverged.
        """
        num_classes = self._network.network.head.out_features
        labels = torch.arange(num_classes).repeat_interleave(len(images) // num_classes)
        labels = labels.to(images.device)
        self._round += 1
        self._models = tuple(self._trained(model, images, labels) for model in self._models)
        return self._snapshots()

    def train(self, iteration: int) -> QueueReport:
        """What there is to tell of an iteration when its last round has its networks."""
        ages, accuracies = zip(*self._matched, strict=True)
        return QueueReport(
            iteration=iteration,
            size=len(self._models),
            ages=ages,
            accuracies=accuracies,
            trained=self._metrics,
        )

    def due(self) -> Iterator[tuple[int, int]]:
        """No training needs real images."""
        return iter(())

    def due_after(self, iteration: int) -> Iterator[tuple[int, int]]:
        """The same of the next iteration."""
        return iter(())

    def state(
        self, known: Collection[VersionKey] = ()
    ) -> tuple[QueueState, dict[VersionKey, ModelVersion]]:
        """Where it is, between two iterations: there is nothing else to keep."""
        at = self._released
        return QueueState(iteration=at, next_id=self._first_model(at), models=()), {}

    def release(self, iteration: int) -> None:
        """Take note that states that are asked for are not before an iteration."""
        self._released = iteration

    def restore(self, state: QueueState, versions: Mapping[VersionKey, Any]) -> None:
        """Go back, or on, to a state that `state` gave."""
        self._released = state.iteration

    def _first_model(self, iteration: int) -> int:
        return iteration * self._num_matched_models

    def _start(self, model: int) -> _Model:
        init_parameters(self._network.network, generator(self._seed, "init", model))
        return _Model(model=model, weights=self._network.weights.clone())

    def _trained(self, model: _Model, images: Tensor, labels: Tensor) -> _Model:
        self._network.load(model.weights)
        unused = torch.zeros_like(model.weights)  # without momentum, the velocity is the gradient
        steps = [
            train_step(
                *(self._network, batch, targets, unused),
                lr=self._config.lr_net,
                momentum=0.0,
                weight_decay=0.0,
            )
            for epoch in range(self._inner_epochs)
            for batch, targets in self._batches(
                images, labels, generator(self._seed, "inner", model.model, self._round, epoch)
            )
        ]
        metrics = TrainMetrics.total(steps)
        if not math.isfinite(metrics.loss):
            raise NonFiniteLossError(
                f"the training loss of model {model.model} on the synthetic images is not finite "
                f"after round {self._round}; lower lr_img or lr_net, or use precision float32"
            )
        self._metrics += metrics
        return _Model(
            model=model.model,
            weights=self._network.weights.clone(),
            age=model.age + len(steps),
            accuracy=metrics.correct / metrics.images,
        )

    def _batches(
        self, images: Tensor, labels: Tensor, draws: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in a drawn order, some at a time; the last batch may be smaller."""
        for rows in torch.randperm(len(images), generator=draws).split(self._config.batch_train):
            batch = images[rows]
            if self._operations:
                params = draw_per_image(self._operations, len(batch), draws)
                batch = augment(batch.unsqueeze(1), params).squeeze(1)
            yield batch, labels[rows]

    def _snapshots(self) -> tuple[Snapshot, ...]:
        self._matched += [(model.age, model.accuracy) for model in self._models]
        return tuple(
            Snapshot(
                model=model.model,
                weights=model.weights.cpu().numpy(),
                accuracy=model.accuracy,
                age=model.age,
            )
            for model in self._models
        )
