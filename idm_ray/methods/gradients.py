"""What the methods that match gradients share: their matcher, options and rounds.

Source: DC (ICLR 2021) and DSA (ICML 2021), with the settings of their published code.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from idm_ray.methods.method import Options, Rounds, all_but

if TYPE_CHECKING:  # what lists methods loads nothing heavy
    from idm_ray.algorithm.matcher import Classes, Matcher

UNUSED = all_but(
    *("iterations", "batch_real", "start", "lr_img", "momentum_img", "num_matched_models"),
    *("classes_per_group", "outer_rounds", "inner_epochs", "batch_train", "lr_net"),
)
"""Options of the queue and of what is IDM's alone."""

_ITERATIONS, _BATCH = 1001, 256

# Outer rounds and inner epochs by images per class.
_PUBLISHED: Final[Mapping[int, tuple[int, int]]] = {
    1: (1, 1),
    10: (10, 50),
    20: (20, 25),
    30: (30, 20),
    40: (40, 15),
    50: (50, 10),
}


def match_gradients(classes: "Classes") -> "Matcher":
    """Match gradients for the weights."""
    from idm_ray.algorithm.gradient_matching import (  # noqa: PLC0415 -- when it is needed
        GradientMatching,
    )

    return GradientMatching(classes)


def published_rounds(ipc: int) -> Rounds:
    """The published numbers for some images per class, or for the nearest that have any."""
    row = min(_PUBLISHED, key=lambda known: (abs(known - ipc), known))
    outer, inner = _PUBLISHED[row]
    return Rounds(outer=outer, inner=inner, ipc=row)


def gradient_options(recipe: Options, **own: Any) -> Options:
    """Options of a method that matches gradients.

    Args:
        recipe: for IDM on the same data; where it takes fewer iterations or smaller batches, to be
            done sooner, so does this.
        own: of the method alone.
    """
    return {
        "iterations": min(_ITERATIONS, recipe.get("iterations", _ITERATIONS)),
        "batch_real": min(_BATCH, recipe.get("batch_real", _BATCH)),
        "lr_img": 0.1,
        "momentum_img": 0.5,
        "image_step": "joint",
        "partition": 1,
        "lambda_reg": 0.0,
        "queue_size": 0,
        **own,
    }
