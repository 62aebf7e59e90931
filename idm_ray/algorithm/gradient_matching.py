"""Matching of gradients: synthetic images shall turn a network the way that real ones do.

Each class is matched by itself: its gradient for the weights is its own, so nothing depends on
which classes are in one group.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from idm_ray.algorithm.augment import AugmentParams, augment, draw_siamese
from idm_ray.algorithm.losses import gradient_distance
from idm_ray.algorithm.matcher import Classes, weights_of
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import span


class GradientMatching:
    """A `Matcher`: mean cross-entropies of real and synthetic images shall have like gradients.

    Real images go through the network in the arithmetic of the run. The gradient of the synthetic
    ones is differentiated once more, which fused blocks cannot; it is always torch's own, in
    float32. In bfloat16 it would point elsewhere (a cosine of 0.96 to 0.997 with float64 at random
    networks on CIFAR-10, where real images in bfloat16 leave 0.999), and it is the smaller part.

    Args:
        classes: to match.

    Source: DC (ICLR 2021), Alg. 1; with operations, DSA (ICML 2021).
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._network = classes.network

    def gradient(
        self, step: int, images: Tensor, snapshots: Sequence[Snapshot]
    ) -> tuple[Tensor, Tensor]:
        """As `Matcher` says; the losses are the distances of the gradients, and zeros."""
        params = self._draw(step)
        images = images.detach().requires_grad_()
        augmented = _augmented(images, params)
        gradient = torch.zeros_like(augmented)
        losses = torch.zeros(2, len(images)).to(augmented)
        for snapshot in snapshots:
            self._network.load(weights_of(snapshot))
            for i, label in enumerate(self._classes.labels):
                real = self._real_gradients(step, label, params and params.of_group(i))
                with span("synthetic"):
                    leaf = augmented[i].detach().requires_grad_()
                    distance = self._distance(leaf, label, real) / len(snapshots)
                    gradient[i] += torch.autograd.grad(distance, leaf)[0]
                    losses[0, i] += distance.detach()
        if params is not None:
            with span("augmentation"):
                gradient = torch.autograd.grad(augmented, images, gradient)[0]
        return gradient, losses

    def _draw(self, step: int) -> AugmentParams | None:
        """What is done to all images of each class, real and synthetic; None: nothing."""
        operations, seed = self._classes.operations, self._classes.config.seed
        if not operations:
            return None
        labels = self._classes.labels
        return draw_siamese(operations, [generator(seed, "augment", step, c) for c in labels])

    def _real_gradients(
        self, step: int, label: int, params: AugmentParams | None
    ) -> tuple[Tensor, ...]:
        """Gradient of the mean cross-entropy of a class's real images, for each parameter."""
        with span("data"):
            batch, weights = self._classes.real_batches(step, label)
        batch = _augmented(batch.unsqueeze(0), params).squeeze(0)
        with span("real"):
            sums: tuple[Tensor, ...] = ()
            for part, share in zip(
                self._network.parts(batch), self._network.parts(weights), strict=True
            ):
                entropy = _entropy(self._network.logits(part), label)
                found = self._network.gradients((share * entropy).sum())
                sums = tuple(map(torch.add, sums, found)) if sums else found
        return sums

    def _distance(self, images: Tensor, label: int, real: Sequence[Tensor]) -> Tensor:
        """Of the gradient of a class's augmented synthetic images (ipc, C, H, W)."""
        loss = _entropy(self._network.plain_logits(images), label).mean()
        return gradient_distance(real, self._network.gradients(loss, differentiable=True))


def _entropy(logits: Tensor, label: int) -> Tensor:
    """(N,), the cross-entropy of each of N images of a class."""
    targets = torch.full((len(logits),), label, device=logits.device)
    return F.cross_entropy(logits, targets, reduction="none")


@span("augmentation")
def _augmented(images: Tensor, params: AugmentParams | None) -> Tensor:
    return images if params is None else augment(images, params)
