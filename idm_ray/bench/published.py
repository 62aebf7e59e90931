"""Algorithm 1 as its authors published it, for timing; written from a description of their code.

Plain PyTorch: eager, float32, channels first, one class at a time. It does what a straightforward
program does, at the speed at which PyTorch does it, and what theirs does that costs time:

- real images of a class pass forward with a graph, which is then dropped;
- synthetic images pass the network twice, for their features and for their logits;
- the backward pass computes gradients of the network's weights too;
- the whole tensor of images is stepped once per class;
- every training step permutes the indices of all training images;
- training is over before the next iteration begins.

Formulas of augmentation and expansion, and the queue's policy, are this project's own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from idm_ray.algorithm.augment import AugmentParams, augment, draw_siamese
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.model_queue import ModelQueue
from idm_ray.algorithm.networks import WIDTH
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import span
from idm_ray.config import MOMENTUM_NET, WEIGHT_DECAY_NET, RunConfig


class ConvNet(nn.Module):
    """Blocks of convolution, instance norm, ReLU and average pooling, and a linear head.

    Args:
        image_shape: (C, H, W).
        num_classes: outputs of the head.
        depth: number of blocks.
    """

    def __init__(self, image_shape: Sequence[int], num_classes: int, depth: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for block in range(depth):
            layers += [
                nn.Conv2d(WIDTH if block else channels, WIDTH, kernel_size=3, padding=1),
                nn.GroupNorm(WIDTH, WIDTH),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH * (height >> depth) * (width >> depth), num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, F) for images (N, C, H, W)."""
        pooled: Tensor = self.blocks(images)
        return pooled.flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, num_classes)."""
        logits: Tensor = self.head(self.features(images))
        return logits


@dataclass(kw_only=True, slots=True)
class _Model:
    """A network of the queue, its optimiser and its accuracy meter."""

    network: ConvNet
    optimizer: torch.optim.SGD
    correct: int = 0
    seen: int = 0

    @property
    def accuracy(self) -> float:
        return self.correct / self.seen if self.seen else 0.0


class Published:
    """Algorithm 1 with its synthetic images and its model queue.

    Args:
        config: settled; `image_step`, precision and compilation are not looked at.
        images: (N, C, H, W) float32, normalised, all training images, sorted by class.
        offsets: (num_classes + 1,): class c is in rows offsets[c] ... offsets[c + 1] - 1.
        start: (num_classes * ipc, C, H, W) first synthetic images, sorted by class.
        operations: augmentations allowed for this data.
    """

    def __init__(
        self,
        config: RunConfig,
        images: Tensor,
        offsets: NDArray[np.int64],
        *,
        start: Tensor,
        operations: Sequence[str],
    ) -> None:
        condense = config.condense
        self.images = start.clone().requires_grad_()
        self._optimizer = image_optimizer(self.images, config)
        self._config = config
        self._real = images
        self._labels = torch.from_numpy(
            np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        ).to(images.device)
        self._rows = [np.arange(first, end) for first, end in pairwise(offsets)]
        self._operations = tuple(operations)
        self._rng = np.random.default_rng(condense.seed)
        self._queue = ModelQueue(config.queue, num_matched_models=1, seed=condense.seed)
        self._models = {model: self._fresh() for model in self._queue.ids}
        self._trained: tuple[int, ...] = ()

    def match(self, iteration: int) -> None:
        """Push, pop and sample; then step the images class by class (Alg. 1, lines 3-6)."""
        plan = self._queue.plan(iteration)
        for model_id in plan.popped:
            del self._models[model_id]
        for model_id in plan.pushed:
            self._models[model_id] = self._fresh()
        self._trained = plan.trained
        (matched,) = (self._models[model_id] for model_id in plan.matched)
        match_classes(
            self.images,
            self._optimizer,
            matched.network,
            self._config,
            accuracy=matched.accuracy,
            real_batch=self._real_batch,
            draw=lambda label: self._draw(iteration, label),
        )

    def train(self) -> None:
        """Train the networks chosen by the last `match` (Alg. 1, line 7)."""
        queue = self._config.queue
        for model in (self._models[model_id] for model_id in self._trained):
            batches = self._training_batches(queue.train_steps, queue.batch_train)
            model.correct += train_network(model.network, model.optimizer, batches)
            model.seen += queue.train_steps * min(queue.batch_train, len(self._real))

    def _training_batches(self, steps: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(steps):
            with span("data"):
                rows = self._rng.permutation(len(self._real))[:size]
                batch = self._real[rows], self._labels[rows]
            yield batch

    def _real_batch(self, label: int) -> Tensor:
        rows = self._rng.permutation(self._rows[label])
        return self._real[rows[: self._config.condense.batch_real]]

    def _draw(self, iteration: int, label: int) -> AugmentParams:
        key = (self._config.condense.seed, "augment", iteration, label)
        return draw_siamese(self._operations, [generator(*key)])

    def _fresh(self) -> _Model:
        depth = int(self._config.condense.network.removeprefix("convnet-"))
        network = ConvNet(self.images.shape[1:], len(self._rows), depth).to(self.images.device)
        return _Model(network=network, optimizer=network_optimizer(network, self._config))


def match_classes(
    images: Tensor,
    optimizer: torch.optim.Optimizer,
    network: ConvNet,
    config: RunConfig,
    *,
    accuracy: float,
    real_batch: Callable[[int], Tensor],
    draw: Callable[[int], AugmentParams],
) -> None:
    """One iteration of the images: for each class in turn, its loss and a step of all images.

    Args:
        images: (num_classes * ipc, C, H, W), sorted by class; changed in place.
        optimizer: of `images`.
        network: to match on.
        config: of the run.
        accuracy: of the network, a fraction.
        real_batch: label -> real images (B, C, H, W) of the class, normalised.
        draw: label -> augmentation of the class's real and synthetic images.
    """
    condense = config.condense
    for label in range(len(images) // condense.ipc):
        with span("data"):
            real = real_batch(label)
        with span("augmentation"):
            params = draw(label)
            of_class = images[label * condense.ipc : (label + 1) * condense.ipc]
            tiles = expand(of_class, condense.partition)
            real, tiles = (augment(x.unsqueeze(0), params).squeeze(0) for x in (real, tiles))
        with span("real"):
            real_features = network.features(real).detach()
        # The backward pass of the augmentation is part of the one call, so it counts here.
        with span("synthetic"):
            distance = real_features.mean(dim=0) - network.features(tiles).mean(dim=0)
            targets = torch.full((len(tiles),), label, device=tiles.device)
            entropy = F.cross_entropy(network(tiles), targets)
            loss = distance.square().sum() + condense.lambda_reg * 100 * accuracy * entropy
            optimizer.zero_grad()
            loss.backward()
        with span("optimiser"):
            optimizer.step()


def train_network(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
) -> int:
    """One SGD step on the mean cross-entropy of each batch.

    Args:
        network: changed in place.
        optimizer: of its weights.
        batches: images (B, C, H, W), normalised, and labels (B,).

    Returns:
        Images that were classified correctly before the step on their batch.
    """
    correct = 0
    for images, labels in batches:
        with span("training"):
            logits = network(images)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels).backward()
            correct += int((logits.argmax(dim=1) == labels).sum())
        with span("optimiser"):
            optimizer.step()
    return correct


def image_optimizer(images: Tensor, config: RunConfig) -> torch.optim.SGD:
    """The optimiser of all synthetic images."""
    condense = config.condense
    return torch.optim.SGD([images], lr=condense.lr_img, momentum=condense.momentum_img)


def network_optimizer(network: nn.Module, config: RunConfig) -> torch.optim.SGD:
    """The optimiser of a network of the queue."""
    return torch.optim.SGD(
        network.parameters(),
        lr=config.queue.lr_net,
        momentum=MOMENTUM_NET,
        weight_decay=WEIGHT_DECAY_NET,
    )
