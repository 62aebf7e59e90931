"""The ConvNet's blocks in one pass each way on CPUs: values of `ConvNet.features`, C++ speed.

Gradients can be taken once and not twice; what needs second derivatives (matching of gradients)
uses the plain network.
"""

from typing import Any

import torch
from torch import Tensor

from idm_ray.algorithm.convolutions import Convolution, choose_convolution
from idm_ray.algorithm.networks import ConvNet
from idm_ray.native import operations as native
from idm_ray.native.operations import OwnConvolutions


def fused_features(
    network: ConvNet, images: Tensor, *, dtype: torch.dtype, own: OwnConvolutions, threads: int
) -> Tensor:
    """The flattened output of the last pooling.

    Args:
        network: on the CPU, float32.
        images: (N, C, H, W) float32.
        dtype: float32 or bfloat16, of images, kernels and what passes between blocks; statistics,
            norms and sums are float32.
        own: which convolutions run in our own C++.
        threads: of each operation.

    Returns:
        (N, F) float32.
    """
    x = images
    for layer, norm in network.each_block():
        convolution = choose_convolution(layer, dtype=dtype, own=own, threads=threads)
        parameters = (layer.weight, layer.bias, norm.weight, norm.bias)
        x = _Block.apply(x, *parameters, convolution, threads)
    return x.float().flatten(1)


class _Block(torch.autograd.Function):
    """Convolution, norm, ReLU and pooling; keeps its input and the norm's for the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        kernel: Tensor,
        offset: Tensor,
        weight: Tensor,
        bias: Tensor,
        convolution: Convolution,
        threads: int,
    ) -> Tensor:
        ctx.dtype = images.dtype
        images = convolution.prepare(images)
        maps = convolution.forward(images, kernel, offset)
        pooled, mean, rstd = native.norm_relu_pool(maps, weight, bias, threads=threads)
        ctx.save_for_backward(images, kernel, weight, bias, maps, mean, rstd)
        ctx.convolution, ctx.threads, ctx.used = convolution, threads, False
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.used:
            raise RuntimeError("the gradient of a fused block can be taken only once")
        ctx.used = True
        images, kernel, weight, bias, maps, mean, rstd = ctx.saved_tensors
        d_maps, d_weight, d_bias = native.norm_relu_pool_backward_(
            gradient.contiguous(memory_format=torch.channels_last),
            *(maps, weight, bias, mean, rstd),
            threads=ctx.threads,
        )
        d_images, d_kernel = None, None
        if ctx.needs_input_grad[0]:
            d_images = ctx.convolution.input_gradient(d_maps, images, kernel).to(ctx.dtype)
        if ctx.needs_input_grad[1]:
            d_kernel = ctx.convolution.weight_gradient(d_maps, images, kernel)
        # The norm takes the mean off again, so that the convolution's bias changes nothing.
        d_offset = torch.zeros_like(d_bias)
        return d_images, d_kernel, d_offset, d_weight, d_bias, None, None
