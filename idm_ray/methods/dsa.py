"""Gradient matching with Siamese augmentation, from real images."""

from idm_ray.methods.gradients import (
    UNUSED,
    gradient_options,
    match_gradients,
    published_rounds,
)
from idm_ray.methods.method import Matching, Method

METHOD = Method(
    title="DSA",
    description="gradient matching with Siamese augmentation",
    how=Matching(matcher=match_gradients, rounds=published_rounds, second_order=True),
    unused=UNUSED,
    settings=lambda recipe: gradient_options(recipe, start="whole"),
)
