"""Floating-point operations that the method needs, and those that the machine can do."""

import time
from dataclasses import dataclass

import torch

from idm_ray.plan import Plan
from idm_ray.work import count_work

_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
_REPEATS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class IterationWork:
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


def iteration_work(plan: Plan) -> IterationWork:
    """What an iteration of a plan needs."""
    work, queue = count_work(plan, ()), plan.config.queue
    trained = queue.num_trained_models * queue.train_steps * work.batch_train
    per_iteration = trained / queue.train_interval
    return IterationWork(
        images=work.classes * sum(work.matched) + per_iteration,
        trained_images=trained,
        flops=work.classes * work.match_flops + per_iteration * work.flops.train,
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
