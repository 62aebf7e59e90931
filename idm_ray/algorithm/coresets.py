"""Choices among the real images of a class, each a pure function of features or predictions.

Ties go to the smaller row, so that the choice is a function of its input alone.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def nearest_to_mean(features: Tensor, ipc: int) -> Tensor:
    """The rows nearest (L2) to the mean of all, the nearest first.

    Args:
        features: (n, F).
        ipc: how many, at most n.

    Returns:
        (ipc,) int64.

    Source: supplement 1, herding.
    """
    distances = (features.double() - features.double().mean(dim=0)).square().sum(dim=1)
    return distances.argsort(stable=True)[:ipc]


def greedy_herding(features: Tensor, ipc: int) -> Tensor:
    """Rows chosen one by one, each so that the mean of those chosen is nearest to that of all.

    Args:
        features: (n, F).
        ipc: how many, at most n.

    Returns:
        (ipc,) int64, all different, in the order of choice.
    """
    rows = features.double()
    mean, total = rows.mean(dim=0), torch.zeros_like(rows[0])
    left = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    chosen = []
    for count in range(1, ipc + 1):
        distances = ((total + rows) / count - mean).square().sum(dim=1)
        best = int(distances.masked_fill(~left, torch.inf).argmin())
        chosen.append(best)
        left[best] = False
        total = total + rows[best]
    return torch.tensor(chosen, device=rows.device)


def most_often_wrong(
    is_wrong: Callable[[int], Tensor], networks: int, ipc: int, draws: torch.Generator
) -> Tensor:
    """The rows that most networks are wrong about; among equals, random ones.

    Args:
        is_wrong: (n,) bool, by the number of a network.
        networks: how many there are, at least one.
        ipc: how many rows, at most n.
        draws: orders equals; on the CPU.

    Returns:
        (ipc,) int64.

    Source: supplement 1, forgetting.
    """
    counts = sum(is_wrong(number).long().cpu() for number in range(networks))
    assert isinstance(counts, Tensor), "there is at least one network"
    shuffled = torch.randperm(len(counts), generator=draws)
    return shuffled[counts[shuffled].argsort(descending=True, stable=True)][:ipc]


def nearest_to_each(features: Tensor, centres: Tensor) -> Tensor:
    """The row nearest (L2) to each centre that no earlier centre has taken.

    Args:
        features: (n, F).
        centres: (k, F), at most n of them.

    Returns:
        (k,) int64, all different.
    """
    distances = torch.cdist(centres.double(), features.double())
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)
