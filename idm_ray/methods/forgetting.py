"""Forgetting: the images that a network which is being trained is wrong about most often.

Source: supplement 1: 5 epochs, wrong predictions counted epoch by epoch, a random choice among the
images with the most.
"""

from idm_ray.algorithm.coresets import most_often_wrong
from idm_ray.methods.coreset import TRAINED, after_each_epoch, trained_options
from idm_ray.methods.method import Method, Selecting

METHOD = Method(
    title="Forgetting",
    description="real images that a network in training is wrong about most often",
    how=Selecting(
        choose=lambda candidates: most_often_wrong(
            candidates.is_wrong, candidates.networks, candidates.ipc, candidates.draws
        ),
        looks_at=after_each_epoch,
    ),
    unused=TRAINED,
    settings=lambda recipe: trained_options(5),
    compared_with=("random",),
)
