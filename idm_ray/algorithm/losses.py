"""The two terms of the loss (Eq. 5), one value per class."""

from torch import Tensor
from torch.nn import functional as F


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
