"""Greedy herding: each image brings the mean of those chosen nearer to that of the class.

Source: Welling (ICML 2009), as iCaRL takes it; on the features that `herding` has.
"""

from idm_ray.algorithm.coresets import greedy_herding
from idm_ray.methods.coreset import TRAINED, after_training, trained_options
from idm_ray.methods.method import Method, Selecting

METHOD = Method(
    title="Herding, greedy",
    description="real images whose mean feature is nearest to that of their class, one by one",
    how=Selecting(
        choose=lambda candidates: greedy_herding(candidates.features(0), candidates.ipc),
        looks_at=after_training,
    ),
    unused=TRAINED,
    settings=lambda recipe: trained_options(40),
    compared_with=("random",),
)
