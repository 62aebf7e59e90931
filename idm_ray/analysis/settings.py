"""What an analysis is asked for: options and defaults. Light to import."""

import dataclasses
from typing import Final

from idm_ray.config import DataConfig

OPTIONS: Final = (
    # Networks are trained without augmentation, so mirroring decides nothing.
    *(field.name for field in dataclasses.fields(DataConfig) if field.name != "flips"),
    *("seed", "device", "precision", "compile", "images_per_pass", "threads"),
)
"""Flat names of the options of `idm_ray.config` that decide about an analysis."""

DEFAULT_K: Final = (1, 5, 10, 20, 50, 100)
"""Neighbours that are looked at, as far as every class has so many images."""

DEFAULT_EPOCHS: Final = 5
"""Of the network whose features are compared: minutes on CIFAR-10. The paper states neither the
network of its figure nor its training."""
