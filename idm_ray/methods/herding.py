"""Herding as the supplement has it: the images nearest to the mean feature of their class.

Source: supplement 1: a ConvNet that is trained for 40 epochs on all images.
"""

from idm_ray.algorithm.coresets import nearest_to_mean
from idm_ray.methods.coreset import TRAINED, after_training, trained_options
from idm_ray.methods.method import Method, Selecting

METHOD = Method(
    title="Herding",
    description="real images nearest to the mean feature of their class",
    how=Selecting(
        choose=lambda candidates: nearest_to_mean(candidates.features(0), candidates.ipc),
        looks_at=after_training,
    ),
    unused=TRAINED,
    settings=lambda recipe: trained_options(40),
    compared_with=("random",),
)
