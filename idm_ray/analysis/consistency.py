"""How many of the nearest real images of a synthetic one have its class (paper, Fig. 4)."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Distances that are held at a time: 8 MB, and as much for each of what sorting them needs.
_DISTANCES = 2**20


class Nearest:
    """The k nearest of all others for each of some points, exactly, in bounded memory.

    Distances are L2, computed in float64. Of others at the same distance those that were added
    first are nearer.

    Args:
        points: (N, F) float32, finite.
        k: how many, at least 1.
    """

    def __init__(self, points: Tensor, k: int) -> None:
        self._points, self._k, self._added = points, k, 0
        self._keys = torch.full(
            (len(points), k), torch.inf, dtype=torch.float64, device=points.device
        )
        self._indices = torch.zeros((len(points), k), dtype=torch.int64, device=points.device)

    def add(self, others: Tensor) -> None:
        """Compare with more others, (B, F) float32; B decides about the memory that is needed."""
        numbers = torch.arange(self._added, self._added + len(others), device=others.device)
        self._added += len(others)
        others = others.double()
        squares = others.square().sum(dim=1)
        at_once = max(1, _DISTANCES // (self._k + len(others)))
        for first in range(0, len(self._points), at_once):
            rows = slice(first, first + at_once)
            # Squared distances but for the square of the point itself, which orders nothing.
            keys = squares - 2 * (self._points[rows].double() @ others.T)
            keys = torch.cat([self._keys[rows], keys], dim=1)
            indices = torch.cat([self._indices[rows], numbers.expand(len(keys), -1)], dim=1)
            keys, order = keys.sort(dim=1, stable=True)
            self._keys[rows] = keys[:, : self._k]
            self._indices[rows] = indices.gather(1, order[:, : self._k])

    def indices(self) -> Tensor:
        """The nearest others of each point by their number in the order of adding, nearest first.

        Returns:
            (N, k) int64.

        Raises:
            ValueError: fewer than k were added.
        """
        if self._added < self._k:
            raise ValueError(f"expected at least k = {self._k} others, got {self._added}; add more")
        return self._indices


def consistency_ratios(neighbours: Tensor, labels: Tensor, ks: Sequence[int]) -> tuple[float, ...]:
    """The share of the k nearest real samples that have a synthetic sample's class, its mean.

    Args:
        neighbours: (N, K) labels of the nearest real samples of each synthetic one, nearest first.
        labels: (N,) of the synthetic samples.
        ks: each from 1 to K.

    Returns:
        For each k the mean over the samples, in [0, 1].

    Source: Sec. 5.3, Fig. 4, in words only.
    """
    same = (neighbours == labels.unsqueeze(1)).double()
    return tuple(float(same[:, :k].mean()) for k in ks)
