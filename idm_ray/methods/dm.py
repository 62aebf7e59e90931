"""Plain distribution matching on fresh random networks: the paper's baseline.

Source: DM (WACV 2023), with the settings of its published code: whole real images to start from,
256 real images per class, one step of SGD with lr 1.0 per iteration.
"""

from typing import Any

from idm_ray.methods.distributions import match_distributions
from idm_ray.methods.method import Matching, Method, Options

# The only options of matching that it has are those of the images.
UNUSED = (
    "lambda_reg",
    "partition",
    "queue_size",
    "queue_init",
    "push_interval",
    "train_interval",
    "num_trained_models",
    "train_steps",
    "accuracy_window",
    "pretrained",
    "pretrain_steps",
    "pretrained_classes",
    "outer_rounds",
    "inner_epochs",
)

_BATCH = 256
_SETTINGS: Options = {
    "queue_size": 0,
    "lambda_reg": 0.0,
    "partition": 1,
    "start": "whole",
    "image_step": "joint",
    "lr_img": 1.0,
    "momentum_img": 0.5,
}


def dm_options(batch_real: int) -> dict[str, Any]:
    """What plain distribution matching sets differently from IDM.

    Args:
        batch_real: that IDM matches on the same data.
    """
    return {**_SETTINGS, "batch_real": min(_BATCH, batch_real)}


METHOD = Method(
    title="DM",
    description="plain distribution matching on fresh random networks",
    how=Matching(matcher=match_distributions),
    unused=UNUSED,
    settings=lambda recipe: dm_options(recipe.get("batch_real", _BATCH)),
)
