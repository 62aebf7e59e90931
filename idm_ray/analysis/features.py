"""The features of real and of synthetic images: one network, and what goes through it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.expansion import expand
from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.algorithm.randomness import generator
from idm_ray.analysis.sets import NamedSet
from idm_ray.errors import CondensedSetError
from idm_ray.plan import Plan
from idm_ray.pretrained import PretrainReport, pretrained_network

# Of the pretrained networks, which are numbered.
_MEMBER = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSpace:
    """The space in which images are compared.

    Attributes:
        network: whose embeddings it is made of.
        epochs: that the network was trained for, on all real training images; 0: its weights are
            random.
        training_images: of the data.
        test_accuracy: of the network, a fraction.
        split: images that it was tested on.
        num_features: dimensions.
        precision: of the network's layers.
        seed: of its weights and batches.
    """

    network: str
    epochs: int
    training_images: int
    test_accuracy: float
    split: str
    num_features: int
    precision: str
    seed: int

    def __str__(self) -> str:
        """In words, with what the network is worth."""
        trained = "untrained"
        if self.epochs:
            epochs = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
            trained = f"trained for {epochs} on {self.training_images} images"
        accuracy = f"{self.split} accuracy {100 * self.test_accuracy:.1f} %"
        return f"{self.network}, {trained}, {accuracy}"


def feature_network(plan: Plan, epochs: int) -> tuple[FlatNetwork, PretrainReport | None]:
    """The network of the feature space; with what is told of its training, if there was any.

    Args:
        plan: whose pretrained network it is.
        epochs: 0 for the weights that training would begin with.

    Raises:
        NonFiniteLossError: training diverged.
    """
    network = FlatNetwork(plan.build_network(), plan.numerics).freeze()
    if not epochs:
        init_parameters(network.network, generator(plan.config.condense.seed, "pretrain", _MEMBER))
        return network, None
    trained, report = pretrained_network(plan, _MEMBER)
    network.load(torch.from_numpy(trained.weights))
    return network, report


@torch.no_grad()
def embed(network: FlatNetwork, images: Tensor) -> Tensor:
    """Features, (N, F) float32, of normalised images (N, C, H, W) on the network's device."""
    return torch.cat([network.features(part) for part in network.parts(images)])


def embed_set(network: FlatNetwork, one: NamedSet, plan: Plan) -> tuple[Tensor, Tensor]:
    """Features of the samples of a set: of its tiles, enlarged, where its card says so.

    Args:
        network: of the feature space.
        one: the set.
        plan: of the network; images are brought to its normalisation.

    Returns:
        (M, F) float32 and the labels (M,); M is the number of images times that of their tiles.

    Raises:
        CondensedSetError: features that are not finite.
    """
    device, tiles = plan.numerics.device, one.card.partition**2
    scale, shift = _renormalisation(one, plan)
    images = torch.from_numpy(one.stored.images)
    features = [
        embed(network, expand(part.to(device) * scale + shift, one.card.partition))
        for part in images.split(max(1, plan.numerics.images_per_pass // tiles))
    ]
    found = torch.cat(features)
    if not found.isfinite().all():
        raise CondensedSetError(
            f"{one.file}: expected images whose features are finite numbers, found others; "
            "condense anew"
        )
    return found, torch.from_numpy(one.stored.labels).repeat_interleave(tiles).to(device)


def _renormalisation(one: NamedSet, plan: Plan) -> tuple[Tensor, Tensor]:
    """What turns pixels as the set is normalised into pixels as the data are: (C, 1, 1) each."""
    own, wanted = one.card, plan.info

    def column(values: Sequence[float]) -> Tensor:
        shaped = np.asarray(values, np.float32).reshape(-1, 1, 1)
        return torch.from_numpy(shaped).to(plan.numerics.device)

    # In Python's floats: where both are alike, these are 1 and 0, and pixels stay as they are.
    scale = [mine / std for mine, std in zip(own.std, wanted.std, strict=True)]
    shift = [
        (mine - mean) / std
        for mine, mean, std in zip(own.mean, wanted.mean, wanted.std, strict=True)
    ]
    return column(scale), column(shift)
