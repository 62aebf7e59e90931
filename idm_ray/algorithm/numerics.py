"""How networks are computed: device, precision, compilation; decided once, here carried out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from idm_ray.algorithm.fused import fused_features
from idm_ray.algorithm.networks import ConvNet, Network
from idm_ray.native.operations import OwnConvolutions


@dataclass(frozen=True, kw_only=True, slots=True)
class Numerics:
    """The arithmetic of a run, the same in all its processes.

    Synthetic images, optimisers, losses and statistics are float32 whatever the precision; only the
    layers of networks run in bfloat16.

    Attributes:
        device: where networks run.
        precision: of their layers.
        compile: whether blocks are fused: on CPUs by C++ operations, on GPUs by torch's compiler.
        own_convolutions: which convolutions of fused blocks in bfloat16 run in our own C++; CPUs
            only.
        images_per_pass: images that go through a network at once.
        threads: of each process.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    own_convolutions: OwnConvolutions = "none"
    images_per_pass: int = 1024
    threads: int = 1

    @property
    def memory_format(self) -> torch.memory_format:
        """Layout of the images that torch's layers get.

        Channels last is what convolutions want; but PyTorch's group norm for bfloat16 in that
        layout is so slow on CPUs that it costs more than the convolutions gain.
        """
        slow_norm = self.device == "cpu" and self.precision == "bfloat16"
        return torch.contiguous_format if slow_norm else torch.channels_last

    def parts(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Cut a batch (B, ...) into nearly equal parts, each for one pass through a network."""
        num_passes = -(-len(batch) // self.images_per_pass)
        parts: tuple[Tensor, ...] = batch.split(-(-len(batch) // num_passes))
        return parts

    def features(self, network: Network) -> Callable[[Tensor], Tensor]:
        """A network's embeddings, (N, F) float32, as a function of images (N, C, H, W) float32."""
        if self.compile and self.device == "cuda":
            return self.plain(torch.compile(network.features, dynamic=False))
        if not self.compile or not isinstance(network, ConvNet):
            return self.plain(network.features)
        return functools.partial(
            fused_features,
            network,
            dtype=getattr(torch, self.precision),
            own=self.own_convolutions,
            threads=self.threads,
        )

    def logits(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """A network's logits, (N, K) float32, as a function of images (N, C, H, W) float32.

        Networks of the user are run as they are.
        """
        if not isinstance(network, Network):
            return self.plain(network)
        features, head = self.features(network), self.plain(network.head)
        return lambda images: head(features(images))

    def plain(self, layers: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Some layers as torch runs them, in this precision; float32 in and out."""

        def run(inputs: Tensor) -> Tensor:
            if inputs.dim() == 4:
                inputs = inputs.contiguous(memory_format=self.memory_format)
            with torch.autocast(
                self.device, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
            ):
                return layers(inputs).float()

        return run


class FlatNetwork:
    """A network whose parameters are one flat float32 vector.

    One vector is cheap to send, to load, to step and to count. The network keeps its storage; other
    weights are copied into it, so that compiled code stays valid.

    Args:
        network: on any device, its parameters may be unallocated.
        numerics: where and how to run it.
    """

    def __init__(self, network: Network, numerics: Numerics) -> None:
        network = network.to_empty(device=numerics.device)
        parameters = list(network.parameters())
        self.weights = torch.empty(sum(p.numel() for p in parameters), device=numerics.device)
        pieces = self.weights.split([p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.data = piece.view(parameter.shape)
        self.network = network
        self.features = numerics.features(network)
        """Embeddings, (N, F) float32, of normalised images (N, C, H, W) float32."""
        self.head = numerics.plain(network.head)
        """Logits, (N, K) float32, of embeddings."""
        self.plain_logits = replace(numerics, precision="float32", compile=False).plain(network)
        """Logits as torch computes them in float32: their gradients can be differentiated."""
        self.parts = numerics.parts
        """Cuts a batch into what goes through at once."""
        self._parameters = parameters

    def load(self, weights: Tensor) -> None:
        """Take over a flat vector of weights (any device, float32)."""
        with torch.no_grad():
            self.weights.copy_(weights)

    def freeze(self) -> "FlatNetwork":
        """Switch off gradients of the weights: matching needs those of the images only."""
        self.network.requires_grad_(False)
        return self

    def logits(self, images: Tensor) -> Tensor:
        """Logits, (N, K) float32, of normalised images (N, C, H, W) float32."""
        return self.head(self.features(images))

    def gradient(self, loss: Tensor) -> Tensor:
        """Gradient of a loss for all weights, as one flat vector."""
        return torch.cat([g.reshape(-1) for g in self.gradients(loss)])

    def gradients(self, loss: Tensor, *, differentiable: bool = False) -> tuple[Tensor, ...]:
        """Gradient of a loss for each parameter in turn, in its shape.

        Args:
            loss: of the logits; of `plain_logits` where the gradient is to be differentiable.
            differentiable: whether gradients flow through what is returned.
        """
        return torch.autograd.grad(loss, self._parameters, create_graph=differentiable)


def to_network_input(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise decoded images on the device they are on.

    Args:
        pixels: (..., C, H, W) uint8.
        mean: (C, 1, 1), of pixels in [0, 1].
        std: (C, 1, 1).

    Returns:
        float32 of the same shape, in normalised space.
    """
    return (pixels.float() / 255 - mean) / std
