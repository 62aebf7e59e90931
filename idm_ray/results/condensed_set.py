"""A condensed set in memory, as torch tensors that a training loop takes."""

import dataclasses

import torch
from torch.utils.data import Dataset

from idm_ray.algorithm.augment import allowed_operations
from idm_ray.algorithm.evaluate import TrainingImages, fit
from idm_ray.algorithm.expansion import expand as expand_images
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.protocols import named_protocol
from idm_ray.results.card import Card


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class CondensedSet:
    """Synthetic images with the knowledge of how to train on them."""

    images: torch.Tensor
    """(N, C, H, W) float32, normalised, unexpanded, sorted by class."""
    labels: torch.Tensor
    """(N,) int64, the class of each image."""
    card: Card
    """What the pixels mean and where they come from."""

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        card = self.card
        channels, height, width = card.image_shape
        expansion = f", expanding {card.partition} x {card.partition}" * (card.partition > 1)
        return (
            f"<CondensedSet: {len(card.class_names)} classes x {card.ipc} images of "
            f"{channels} x {height} x {width}{expansion}, {card.method} on {card.source['name']}>"
        )

    def dataset(self, *, expand: bool = True) -> "LabelledImages":
        """Returns the set for a `torch.utils.data.DataLoader`.

        Args:
            expand: Whether each image is cut into its tiles and each tile enlarged, as training
                needs it; without, the stored images are given out.

        Returns:
            N * partition**2 pairs, an image's tiles next to each other (N pairs unexpanded).

        >>> loader = torch.utils.data.DataLoader(idm_ray.load("runs/demo").dataset(), batch_size=4)
        >>> images, labels = next(iter(loader))
        >>> images.shape, labels
        (torch.Size([4, 1, 8, 8]), tensor([0, 1, 2, 3]))
        """
        partition = self.card.partition if expand else 1
        return LabelledImages(
            expand_images(self.images, partition),
            self.labels.repeat_interleave(partition * partition),
        )

    def fit(
        self, network: torch.nn.Module, *, epochs: int | None = None, seed: int = 0
    ) -> torch.nn.Module:
        """Trains a network on the set, as its evaluation does (Sec. 5.1).

        Args:
            network: Maps normalised images (B, C, H, W) to logits (B, num_classes); it is
                initialised already, trained in place where it is, and left in evaluation mode.
            epochs: Passes over the expanded images; by default those of the card's protocol.
            seed: Of the order of images and of their augmentation.

        Returns:
            The network.

        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        >>> idm_ray.load("runs/demo").fit(network, epochs=2) is network
        True
        """
        device = next(network.parameters()).device
        examples = self.dataset()
        images, labels = examples.images.to(device), examples.labels.to(device)
        protocol = named_protocol(
            self.card.protocol["name"],
            epochs or self.card.protocol["epochs"],
            lr_net=self.card.protocol["lr_net"],
            batch_train=self.card.protocol["batch_train"],
            operations=allowed_operations(self.card.flips),
        )
        numerics = Numerics(device="cuda" if device.type == "cuda" else "cpu")
        training = TrainingImages(count=len(images), take=lambda rows: (images[rows], labels[rows]))
        fit(network, training, protocol, numerics, (seed, "fit"))
        return network


class LabelledImages(Dataset[tuple[torch.Tensor, int]]):
    """Pairs of a normalised image (C, H, W) float32 and its label.

    Args:
        images: (N, C, H, W) float32.
        labels: (N,) int64.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index], int(self.labels[index])
