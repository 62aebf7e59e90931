"""Training of the networks that models of the queue may start from, before any condensing."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from idm_ray.algorithm.networks import Network, init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import span
from idm_ray.algorithm.state import Pretrained
from idm_ray.algorithm.steps import TrainMetrics, train_step
from idm_ray.errors import NonFiniteLossError

PretrainingBatches = Callable[[int, int], tuple[Tensor, Tensor]]
"""(pretrained network, step) -> normalised images (B, C, H, W) and labels (B,)."""

# The accuracy is that of so many steps at the end: enough images to be steady, and of now.
METER_STEPS = 50


def pretrain(
    network: Network,
    numerics: Numerics,
    batches: PretrainingBatches,
    *,
    member: int,
    looks: Sequence[int],
    lr: float,
    seed: int,
) -> Iterator[Pretrained]:
    """Train one network of the set from a random start.

    Args:
        network: unallocated.
        numerics: where and how to compute.
        batches: real images of all classes.
        member: its number in the set, which names its draws.
        looks: after so many steps of SGD the network is looked at; ascending, from 1.
        lr: learning rate; momentum and weight decay are those of the queue.
        seed: of the run.

    Yields:
        The network at each look.

    Raises:
        NonFiniteLossError: it diverged.

    Source: supplement 3, P(t).
    """
    flat = FlatNetwork(network, numerics)
    init_parameters(flat.network, generator(seed, "pretrain", member))
    velocity = torch.zeros_like(flat.weights)
    recent = deque[tuple[int, Tensor]](maxlen=METER_STEPS)
    for step in range(looks[-1]):
        with span("data"):
            images, labels = batches(member, step)
        recent.append(train_step(flat, images, labels, velocity, lr=lr))
        if (step + 1) % METER_STEPS == 0 or step + 1 in looks:
            _refuse_diverged(flat, member, step + 1)
        if step + 1 in looks:
            metrics = TrainMetrics.total(recent)
            weights = flat.weights.cpu().numpy().copy()
            yield Pretrained(weights=weights, images=metrics.images, correct=metrics.correct)


def _refuse_diverged(network: FlatNetwork, member: int, steps: int) -> None:
    if not network.weights.isfinite().all():
        raise NonFiniteLossError(
            f"the weights of pretrained network {member} are not finite after {steps} steps; "
            "lower lr_net, or use precision float32"
        )
