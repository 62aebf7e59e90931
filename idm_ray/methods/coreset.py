"""What the methods that choose real images share: their options, and the networks they look at."""

from typing import Any

from idm_ray.methods.method import Options, all_but

UNTRAINED = all_but("batch_train", "lr_net")
"""Options that a method does not have which looks at no network."""
TRAINED = all_but("batch_train", "lr_net", "pretrain_steps")
"""Options that a method does not have which looks at a trained network."""


def coreset_options(**own: Any) -> Options:
    """Options of a method that chooses real images: whole ones, as they are."""
    return {
        "iterations": 0,
        "lambda_reg": 0.0,
        "queue_size": 0,
        "partition": 1,
        "start": "whole",
        **own,
    }


def trained_options(epochs: int) -> Options:
    """The same for a method that looks at a network trained for so many epochs on all images."""
    return coreset_options(pretrained=1, pretrain_steps=f"{epochs} epochs")


def after_training(steps: int, epoch: int) -> tuple[int, ...]:
    """Look at the network once, when it is trained."""
    return (steps,)


def after_each_epoch(steps: int, epoch: int) -> tuple[int, ...]:
    """Look at the network after every epoch, and at its end."""
    return tuple(sorted({*range(epoch, steps, epoch), steps}))
