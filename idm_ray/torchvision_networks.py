"""Torchvision's classifiers as networks to evaluate with, as they are."""

import torch
import torchvision
from torch import Tensor, nn

from idm_ray.config import TORCHVISION


class FromTorchvision(nn.Module):
    """A classifier of torchvision, for images of one channel as well.

    Args:
        network: takes (N, 3, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (N, num_classes)."""
        found = self.network(images.expand(-1, 3, -1, -1))
        # Inception and GoogLeNet have more outputs, for training, behind it.
        logits: Tensor = found if isinstance(found, Tensor) else found[0]
        return logits


def torchvision_names() -> list[str]:
    """Names of torchvision's classifiers, as `evaluate` takes them."""
    models = torchvision.models.list_models(module=torchvision.models)
    return [TORCHVISION + name for name in models]


def build_torchvision(name: str, num_classes: int, seed: int) -> nn.Module:
    """A classifier of torchvision with fresh weights, on the CPU.

    Args:
        name: of `torchvision_names`.
        num_classes: of its head.
        seed: of its weights, which torchvision draws by rules of its own.
    """
    # Torchvision draws from global state; it is put back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = torchvision.models.get_model(
            name.removeprefix(TORCHVISION), weights=None, num_classes=num_classes
        )
    return FromTorchvision(network)
