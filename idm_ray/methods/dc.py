"""Gradient matching, from noise and without augmentation.

Its published figures are of protocol dc, which has none either.
"""

from idm_ray.methods.gradients import (
    UNUSED,
    gradient_options,
    match_gradients,
    published_rounds,
)
from idm_ray.methods.method import Matching, Method

METHOD = Method(
    title="DC",
    description="gradient matching without augmentation (published under --protocol dc)",
    how=Matching(
        matcher=match_gradients, rounds=published_rounds, augments=False, second_order=True
    ),
    unused=UNUSED,
    settings=lambda recipe: gradient_options(recipe, start="noise"),
    compared_with=("random",),
)
