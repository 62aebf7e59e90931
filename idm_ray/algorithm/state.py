"""What decides the future of a run, as plain arrays and numbers: enough to go on from anywhere.

Everything else is drawn by key, so that it needs no state. All of it is immutable by agreement: a
state that was handed out stays what it was while the run goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.float32]]

VersionKey = tuple[int, int]
"""(model id, training steps it has had in the queue): weights that share it are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupState:
    """A group of classes between two iterations, with what may still have to be told of it.

    Attributes:
        iteration: the next one, counting from 0; so many are finished.
        images: (I, ipc, C, H, W) synthetic images, normalised.
        velocity: of their optimiser, of the same shape.
        copies: the images as they were after so many iterations, where somebody still wants them.
        losses: (2, T, I) matching loss and regularization of the last T iterations.
    """

    iteration: int
    images: FloatArray
    velocity: FloatArray
    copies: Mapping[int, FloatArray] = field(default_factory=dict)
    losses: FloatArray = field(default_factory=lambda: np.zeros((2, 0, 0), np.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A network of the queue between two trainings: weights and velocity, both (P,)."""

    weights: FloatArray
    velocity: FloatArray


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelState:
    """A network's place in the queue, without its weights.

    Attributes:
        model: id of the network.
        age: training steps it has had in the queue.
        correct: training images that it got right, within the accuracy window.
        seen: training images within the window.
    """

    model: int
    age: int
    correct: int
    seen: int

    @property
    def version(self) -> VersionKey:
        """Names its weights and velocity."""
        return self.model, self.age


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueState:
    """The model queue between two iterations, without weights.

    Attributes:
        iteration: the next one; all training before it is done.
        next_id: of the model that will be made next.
        models: oldest first; none where every iteration has fresh ones.
    """

    iteration: int
    next_id: int
    models: tuple[ModelState, ...]

    @property
    def is_new(self) -> bool:
        """Whether no network was made yet: those of the first iteration are still to come."""
        return not self.iteration and not self.next_id


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A network that was trained on real images of all classes.

    Attributes:
        weights: (P,) float32, all parameters as one vector; a read-only view where it was fetched
            from shared memory.
        images: seen in its last steps.
        correct: how many of them it classified correctly.
    """

    weights: FloatArray
    images: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Training accuracy of its last steps, a fraction."""
        return self.correct / self.images
