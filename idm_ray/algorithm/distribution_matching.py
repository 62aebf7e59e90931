"""Matching of mean features, with the class-aware regularization (Eq. 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from idm_ray.algorithm.augment import AugmentParams, augment, draw_siamese
from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.losses import class_aware_regularization, class_means, matching_loss
from idm_ray.algorithm.matcher import Classes, weights_of
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import span


class DistributionMatching:
    """A `Matcher`: the tiles of a class shall have the mean feature of its real images.

    All classes go through a network together.

    Args:
        classes: to match. Their network is frozen: only the gradient of the images is wanted.

    Source: Alg. 1, lines 3-6.
    """

    def __init__(self, classes: Classes) -> None:
        self._classes = classes
        self._network = classes.network.freeze()

    def gradient(
        self, step: int, images: Tensor, snapshots: Sequence[Snapshot]
    ) -> tuple[Tensor, Tensor]:
        """As `Matcher` says; the losses are those of matching and the regularization."""
        labels, seed = self._classes.labels, self._classes.config.seed
        params = draw_siamese(
            self._classes.operations, [generator(seed, "augment", step, c) for c in labels]
        )
        images = images.detach().requires_grad_()
        augmented = self._augmented_tiles(images, params)
        leaf = augmented.detach().requires_grad_()
        gradient, losses = torch.zeros_like(leaf), torch.zeros(2, len(labels)).to(leaf)
        for snapshot in snapshots:
            self._network.load(weights_of(snapshot))
            real_means = self._real_means(step, params)
            with span("synthetic"):
                terms = self._loss_terms(leaf, real_means, snapshot.accuracy) / len(snapshots)
                gradient += torch.autograd.grad(terms.sum(), leaf)[0]
                losses += terms.detach()
        with span("augmentation"):
            gradient = torch.autograd.grad(augmented, images, gradient)[0]
        return gradient, losses

    @span("augmentation")
    def _augmented_tiles(self, images: Tensor, params: AugmentParams) -> Tensor:
        """(I, ipc, C, H, W) -> (I, ipc * l*l, C, H, W): expansion, then augmentation."""
        tiles = expand(images.flatten(0, 1), self._classes.config.partition)
        return augment(tiles.unflatten(0, (len(images), -1)), params)

    @torch.no_grad()
    def _real_means(self, step: int, params: AugmentParams) -> Tensor:
        """(I, F): mean feature of each class's batch of real images, class by class."""
        means = []
        for i, c in enumerate(self._classes.labels):
            with span("data"):
                batch, weights = self._classes.real_batches(step, c)
            with span("augmentation"):
                batch = augment(batch.unsqueeze(0), params.of_group(i)).squeeze(0)
            with span("real"):
                features = [self._network.features(part) for part in self._network.parts(batch)]
                means.append(class_means(torch.cat(features).unsqueeze(0), weights.unsqueeze(0)))
        return torch.cat(means)

    def _loss_terms(self, tiles: Tensor, real_means: Tensor, accuracy: float) -> Tensor:
        """(2, I): both terms of Eq. 5 for augmented tiles (I, M, C, H, W)."""
        num_classes, num_tiles = tiles.shape[:2]
        features = self._network.features(tiles.flatten(0, 1))
        logits = self._network.head(features).unflatten(0, (-1, num_tiles))
        equal_weights = features.new_full((num_classes, num_tiles), 1 / num_tiles)
        syn_means = class_means(features.unflatten(0, (-1, num_tiles)), equal_weights)
        regularization = class_aware_regularization(
            logits,
            torch.tensor(self._classes.labels, device=logits.device),
            accuracy=accuracy,
            lambda_reg=self._classes.config.lambda_reg,
        )
        return torch.stack([matching_loss(real_means, syn_means), regularization])
