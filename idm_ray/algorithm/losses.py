"""The two terms of the loss (Eq. 5), one value per class; and the distance of gradients."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

# Added to the product of two norms: a row without gradient has distance 1.
_NO_ROW: Final = 1e-6


def class_means(features: Tensor, weights: Tensor) -> Tensor:
    """Mean feature of each class.

    Args:
        features: (I, B, F), the features of B images of each of I classes.
        weights: (I, B), summing to 1 over B; images that only fill up a class have weight 0.

    Returns:
        (I, F). Gradients flow to `features`.

    Source: the two means in Eq. 2.
    """
    return (weights.unsqueeze(1) @ features).squeeze(1)


def matching_loss(real_means: Tensor, syn_means: Tensor) -> Tensor:
    """Squared distance between the mean features of real and synthetic images.

    Args:
        real_means: (I, F), one row per class; no gradient is wanted for it.
        syn_means: (I, F).

    Returns:
        (I,), the sum over features, not their mean. Gradients flow to both arguments.

    Source: Eq. 2, on the network that was sampled from the queue.
    """
    return (real_means - syn_means).square().sum(dim=1)


def class_aware_regularization(
    logits: Tensor, labels: Tensor, *, accuracy: float, lambda_reg: float
) -> Tensor:
    """Cross-entropy of the synthetic images, weighted by how good the network is.

    Args:
        logits: (I, M, K) of M synthetic images of each of I classes, for all K classes.
        labels: (I,) int64, the class of each row.
        accuracy: training accuracy of the network, a fraction in [0, 1].
        lambda_reg: weight of the term. It multiplies the accuracy **in percent**, as the published
            figures were made: at 60 % and lambda_reg 0.5 the cross-entropy weighs 30.

    Returns:
        (I,), the mean over a class's images, weighted. Gradients flow to `logits`.

    Source: Eq. 4 and 5.
    """
    per_class, images, classes = logits.shape
    targets = labels.repeat_interleave(images)
    entropy = F.cross_entropy(logits.reshape(-1, classes), targets, reduction="none")
    return lambda_reg * 100 * accuracy * entropy.reshape(per_class, images).mean(dim=1)


def gradient_distance(real: Sequence[Tensor], syn: Sequence[Tensor]) -> Tensor:
    """How differently two losses would turn a network: 1 - cosine, summed over outputs of layers.

    Args:
        real: gradient for each parameter, in its shape.
        syn: the same of another loss. Those of biases and norms, of one dimension, are left out.

    Returns:
        A scalar, the sum over weights and, in each, over its rows, one per output: (out, in) of a
        linear layer, (out, in * kh * kw) of a convolution. Gradients flow to both arguments.

    Source: DC (ICLR 2021), Eq. 10, as its published code has it.
    """
    distances = [
        _row_distances(one.flatten(1), other.flatten(1)).sum()
        for one, other in zip(real, syn, strict=True)
        if one.dim() > 1
    ]
    return torch.stack(distances).sum()


def _row_distances(one: Tensor, other: Tensor) -> Tensor:
    """(out,), of two matrices (out, in)."""
    # Not the root of a sum of squares: its gradient would be infinite for a row of zeros.
    norms: Tensor = torch.linalg.vector_norm(one, dim=1) * torch.linalg.vector_norm(other, dim=1)
    products = (one * other).sum(dim=1)
    return 1 - products / (norms + _NO_ROW)
