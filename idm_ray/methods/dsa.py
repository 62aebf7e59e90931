"""Gradient matching with Siamese augmentation, from real images."""

from idm_ray.algorithm.gradient_matching import GradientMatching
from idm_ray.methods.gradients import UNUSED, gradient_options, published_rounds
from idm_ray.methods.method import Matching, Method

METHOD = Method(
    title="DSA",
    description="gradient matching with Siamese augmentation",
    how=Matching(matcher=GradientMatching, rounds=published_rounds, second_order=True),
    unused=UNUSED,
    settings=lambda recipe: gradient_options(recipe, start="whole"),
)
