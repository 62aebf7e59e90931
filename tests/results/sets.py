"""Small condensed sets for the tests."""

from typing import Any

import numpy as np

from idm_ray.results.card import Card


def make_card(**changes: Any) -> Card:
    """A card of 3 classes with 2 images of 3 x 4 x 4 each; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "image_shape": (3, 4, 4),
        "mean": (0.49, 0.48, 0.45),
        "std": (0.25, 0.24, 0.26),
        "partition": 2,
        "class_names": ("cat", "dog", "maki\u0142a"),
        "ipc": 2,
        "method": "idm",
        "recipe": "cifar10",
        "network": "convnet",
        "flips": True,
        "seed": 0,
        "iterations": 20_000,
        "protocol": {
            "name": "paper",
            "epochs": 1000,
            "lr_net": 0.01,
            "batch_train": 256,
            "repeats": 5,
        },
        "source": {"name": "cifar10", "fingerprint": "0f"},
        "versions": {"idm_ray": "0.1.0", "numpy": np.__version__},
    }
    return Card(**(fields | changes))


def make_arrays(card: Card, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random images, with the numbers that are easily lost among them, and sorted labels."""
    shape = (card.num_images, *card.image_shape)
    images = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    images.reshape(-1)[:4] = [-0.0, 1e-45, -1e-40, 3.4e38]
    return images, np.repeat(np.arange(len(card.class_names)), card.ipc)
