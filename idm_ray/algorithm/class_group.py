"""A group of classes that are condensed together: the unit that is given to workers.

Groups are cut by the configuration, never by the number of workers, and share nothing; a run's
images are the same wherever its groups are.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.augment import AugmentParams, augment, draw_siamese
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.losses import class_aware_regularization, class_means, matching_loss
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.sgd import per_class_step_, sgd_step_
from idm_ray.algorithm.spans import span
from idm_ray.algorithm.state import FloatArray, GroupState
from idm_ray.config import CondenseConfig
from idm_ray.errors import NonFiniteLossError
from idm_ray.pace import iterations_remembered

RealBatches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(iteration, class) -> normalised images (B, C, H, W) and their weights in the mean (B,)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupReport:
    """Losses of a group over some iterations.

    Attributes:
        classes: labels of the group's classes, I.
        first_iteration: of the T that are reported.
        matching: (T, I) float64, matching loss of each class.
        regularization: (T, I) float64, weighted class-aware regularization.
    """

    classes: tuple[int, ...]
    first_iteration: int
    matching: np.ndarray[Any, np.dtype[np.float64]]
    regularization: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """A `GroupState` on the device; tensors are never changed in place once they are in it."""

    iteration: int
    images: Tensor
    velocity: Tensor
    copies: Mapping[int, Tensor] = field(default_factory=dict)
    losses: tuple[Tensor, ...] = ()


class ClassGroup:
    """Synthetic images of a fixed set of classes, and their optimiser.

    Its state can be taken from another thread while an iteration is under way: it is that of the
    last one that was finished.

    Args:
        config: of the condensation.
        classes: labels of the group's classes, I of them.
        num_classes: classes of the data set, C.
        operations: augmentations allowed for this data.
        network: frozen; may be shared with other groups of the same process.
        real_batches: real images to match.
        start: (I, ipc, C, H, W) first synthetic images, normalised, on the network's device.
        copy_at: after so many finished iterations, a copy of the images is kept until `forget`.
    """

    def __init__(
        self,
        config: CondenseConfig,
        classes: Sequence[int],
        *,
        num_classes: int,
        operations: Sequence[str],
        network: FlatNetwork,
        real_batches: RealBatches,
        start: Tensor,
        copy_at: Collection[int] = (),
    ) -> None:
        self.classes = tuple(classes)
        self._moment = _Moment(iteration=0, images=start.clone(), velocity=torch.zeros_like(start))
        self._unreported: tuple[Tensor, ...] = ()
        self._copy_at = frozenset(copy_at)
        self._remembered = iterations_remembered(config.iterations)
        self._config = config
        self._num_classes = num_classes
        self._operations = tuple(operations)
        self._network = network
        self._real_batches = real_batches
        self._labels = torch.tensor(self.classes, device=start.device)

    @property
    def iteration(self) -> int:
        """The next iteration, counting from 0."""
        return self._moment.iteration

    @property
    def images(self) -> Tensor:
        """(I, ipc, C, H, W): the synthetic images as they are, not to be changed."""
        return self._moment.images

    def run(self, first_iteration: int, sequence: Sequence[Sequence[Snapshot]]) -> GroupReport:
        """Some iterations; those that are already finished are passed over.

        Args:
            first_iteration: number of the first one in `sequence`, at most the group's next one.
            sequence: the networks to match in each.

        Returns:
            Losses of the iterations that were run; the first time after `restore`, of those before
            them, too, as far as they are remembered.

        Raises:
            NonFiniteLossError: a loss became NaN or infinite.
        """
        assert first_iteration <= self.iteration, "no iteration is left out"
        first, sequence = self.iteration, sequence[self.iteration - first_iteration :]
        earlier, self._unreported = self._unreported, ()
        losses = [self._step(first + t, snapshots) for t, snapshots in enumerate(sequence)]
        # The device is waited for once, here.
        matching, regularization = self._together([*earlier, *losses]).double().cpu().numpy()
        report = GroupReport(
            classes=self.classes,
            first_iteration=first - len(earlier),
            matching=matching,
            regularization=regularization,
        )
        _refuse_non_finite(report, sequence)
        return report

    def _together(self, losses: Sequence[Tensor]) -> Tensor:
        """(2, T, I): losses of some iterations, each (2, I)."""
        return torch.stack([*losses], dim=1) if losses else torch.zeros(2, 0, len(self.classes))

    def state(self) -> GroupState:
        """What decides the future, as it was after the last finished iteration."""
        moment = self._moment
        return GroupState(
            iteration=moment.iteration,
            images=moment.images.cpu().numpy(),
            velocity=moment.velocity.cpu().numpy(),
            copies={n: images.cpu().numpy() for n, images in moment.copies.items()},
            losses=self._together(moment.losses).cpu().numpy(),
        )

    def restore(self, state: GroupState) -> None:
        """Go back, or on, to a state of the same group."""
        self._unreported = self._on_device(state.losses).unbind(1)
        self._moment = _Moment(
            iteration=state.iteration,
            images=self._on_device(state.images),
            velocity=self._on_device(state.velocity),
            copies={n: self._on_device(images) for n, images in state.copies.items()},
            losses=self._unreported,
        )

    @property
    def copied(self) -> Collection[int]:
        """After how many iterations there are copies."""
        return self._moment.copies.keys()

    def copy(self, iteration: int) -> FloatArray:
        """(I, ipc, C, H, W): the images as they were after so many iterations."""
        return self._moment.copies[iteration].cpu().numpy()

    def forget(self, iteration: int) -> None:
        """Drop the copy that was made after so many iterations; not while `run` is under way."""
        kept = {n: images for n, images in self._moment.copies.items() if n != iteration}
        self._moment = replace(self._moment, copies=kept)

    def _on_device(self, array: FloatArray) -> Tensor:
        # A copy: the array may be a read-only view of shared memory.
        return torch.from_numpy(array.copy()).to(self._labels.device)

    def _step(self, iteration: int, snapshots: Sequence[Snapshot]) -> Tensor:
        """One iteration; returns (2, I): matching loss and regularization (Alg. 1, lines 3-6)."""
        params = draw_siamese(
            self._operations,
            [generator(self._config.seed, "augment", iteration, c) for c in self.classes],
        )
        images = self._moment.images.detach().requires_grad_()
        augmented = self._augmented_tiles(images, params)
        leaf = augmented.detach().requires_grad_()
        gradient, losses = torch.zeros_like(leaf), torch.zeros(2, len(self.classes)).to(leaf)
        for snapshot in snapshots:
            self._network.load(_as_tensor(snapshot.weights))
            real_means = self._real_means(iteration, params)
            with span("synthetic"):
                terms = self._loss_terms(leaf, real_means, snapshot.accuracy) / len(snapshots)
                gradient += torch.autograd.grad(terms.sum(), leaf)[0]
                losses += terms.detach()
        with span("augmentation"):
            gradient = torch.autograd.grad(augmented, images, gradient)[0]
        self._update(gradient, losses)
        return losses

    @span("augmentation")
    def _augmented_tiles(self, images: Tensor, params: AugmentParams) -> Tensor:
        """(I, ipc, C, H, W) -> (I, ipc * l*l, C, H, W): expansion, then augmentation."""
        tiles = expand(images.flatten(0, 1), self._config.partition)
        return augment(tiles.unflatten(0, (len(self.classes), -1)), params)

    @torch.no_grad()
    def _real_means(self, iteration: int, params: AugmentParams) -> Tensor:
        """(I, F): mean feature of each class's batch of real images, class by class."""
        means = []
        for i, c in enumerate(self.classes):
            with span("data"):
                batch, weights = self._real_batches(iteration, c)
            with span("augmentation"):
                of_class = AugmentParams(params.operations[i : i + 1], params.uniforms[i : i + 1])
                batch = augment(batch.unsqueeze(0), of_class).squeeze(0)
            with span("real"):
                features = [self._network.features(part) for part in self._network.parts(batch)]
                means.append(class_means(torch.cat(features).unsqueeze(0), weights.unsqueeze(0)))
        return torch.cat(means)

    def _loss_terms(self, tiles: Tensor, real_means: Tensor, accuracy: float) -> Tensor:
        """(2, I): both terms of Eq. 5 for augmented tiles (I, M, C, H, W)."""
        num_tiles = tiles.shape[1]
        features = self._network.features(tiles.flatten(0, 1))
        logits = self._network.head(features).unflatten(0, (-1, num_tiles))
        equal_weights = features.new_full((len(self.classes), num_tiles), 1 / num_tiles)
        syn_means = class_means(features.unflatten(0, (-1, num_tiles)), equal_weights)
        regularization = class_aware_regularization(
            logits, self._labels, accuracy=accuracy, lambda_reg=self._config.lambda_reg
        )
        return torch.stack([matching_loss(real_means, syn_means), regularization])

    @span("optimiser")
    def _update(self, gradient: Tensor, losses: Tensor) -> None:
        """Go on to the next moment; the last one stays what it was for whoever has taken it."""
        images, velocity = self._moment.images.clone(), self._moment.velocity.clone()
        step = {"lr": self._config.lr_img, "momentum": self._config.momentum_img}
        if self._config.image_step == "joint":
            sgd_step_(images, gradient, velocity, **step)
        else:
            per_class_step_(images, gradient, velocity, num_classes=self._num_classes, **step)
        done, copies = self._moment.iteration + 1, self._moment.copies
        if done in self._copy_at:
            copies = {**copies, done: images}
        remembered = (*self._moment.losses, losses)
        self._moment = _Moment(
            iteration=done,
            images=images,
            velocity=velocity,
            copies=copies,
            losses=remembered[max(0, len(remembered) - self._remembered) :],
        )


def _as_tensor(weights: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    """A tensor over an array that may be a read-only view of shared memory; only read from."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(weights)


def _refuse_non_finite(report: GroupReport, sequence: Sequence[Sequence[Snapshot]]) -> None:
    # Those before the sequence were looked at when they were run.
    earlier = len(report.matching) - len(sequence)
    bad = ~np.isfinite(report.matching + report.regularization)[earlier:]
    if bad.any():
        t, i = np.argwhere(bad)[0].tolist()
        models = ", ".join(str(snapshot.model) for snapshot in sequence[t])
        raise NonFiniteLossError(
            f"the loss of class {report.classes[i]} is not finite at iteration "
            f"{report.first_iteration + earlier + t}, matched on model {models}; lower lr_img or "
            "lambda_reg, or use precision float32"
        )
