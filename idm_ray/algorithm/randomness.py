"""Torch generators keyed by purpose; the algorithm draws from nothing else."""

import torch

from idm_ray.keys import seed_from


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose: the same numbers whatever the device or the process.

    Args:
        *key: (seed, purpose, iteration, class or model ...); see `idm_ray.keys.seed_from`.
    """
    return torch.Generator().manual_seed(seed_from(*key))
