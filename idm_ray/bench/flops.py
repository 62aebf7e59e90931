"""Floating-point operations that the method needs, and those that the machine can do."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from idm_ray.algorithm.networks import WIDTH
from idm_ray.plan import Plan

_KERNEL = 9  # 3x3
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_REPEATS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFlops:
    """Operations for one image, two per multiply-add, convolutions and head only.

    Attributes:
        forward: a forward pass.
        synthetic: forward, and backward to the image alone.
        training: forward, and backward to all weights.
    """

    forward: float
    synthetic: float
    training: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one iteration of the method needs, averaged over training and other iterations.

    What an implementation does beyond it, such as a second pass over the same images, does not
    count: FLOP/s are those of useful work.

    Attributes:
        images: through networks.
        trained_images: of these, by an iteration that trains; 0 if none does.
        flops: operations.
    """

    images: float
    trained_images: int
    flops: float


def convnet_flops(image_shape: Sequence[int], num_classes: int, depth: int) -> ImageFlops:
    """Count the operations of a ConvNet.

    Args:
        image_shape: (C, H, W).
        num_classes: outputs of the head.
        depth: number of blocks.
    """
    channels, height, width = image_shape
    if (channels, height, width) == (1, 28, 28):  # padded by the first convolution
        height, width = 32, 32
    layers = []
    for block in range(depth):
        inputs = WIDTH if block else channels
        layers.append(2 * _KERNEL * inputs * WIDTH * (height >> block) * (width >> block))
    layers.append(2 * WIDTH * (height >> depth) * (width >> depth) * num_classes)
    forward = sum(layers)
    # The first layer's input is the image, of which training needs no gradient.
    return ImageFlops(forward=forward, synthetic=2 * forward, training=3 * forward - layers[0])


def iteration_work(plan: Plan) -> Work:
    """What an iteration of a plan needs."""
    condense, queue, info = plan.config.condense, plan.config.queue, plan.info
    depth = int(condense.network.removeprefix("convnet-"))
    each = convnet_flops(info.image_shape, info.num_classes, depth)
    real = sum(min(condense.batch_real, count) for count in info.train_counts)
    tiles = info.num_classes * condense.ipc * condense.partition**2
    real, tiles = real * condense.num_matched_models, tiles * condense.num_matched_models
    trained = 0
    if queue.queue_size:
        batch = min(queue.batch_train, sum(info.train_counts))
        trained = queue.num_trained_models * queue.train_steps * batch
    per_iteration = trained / queue.train_interval
    return Work(
        images=real + tiles + per_iteration,
        trained_images=trained,
        flops=real * each.forward + tiles * each.synthetic + per_iteration * each.training,
    )


def matmul_flops_per_s(device: str, dtype: torch.dtype) -> float:
    """The most operations per second that this process reaches in a matrix product.

    Args:
        device: cpu or cuda.
        dtype: of the matrices.
    """
    side = _MATRIX_SIDE[device]
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(left)
    fastest = float("inf")
    for _ in range(1 + _REPEATS):  # the first one prepares
        synchronize(device)
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        synchronize(device)
        fastest = min(fastest, time.perf_counter() - began)
    return float(2 * side**3 / fastest)


def synchronize(device: str) -> None:
    """Wait for what the device has been told to do."""
    if device == "cuda":
        torch.cuda.synchronize()
