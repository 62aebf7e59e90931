"""Random real images: what every other method has to beat."""

from idm_ray.methods.coreset import UNTRAINED, coreset_options
from idm_ray.methods.method import Method, Selecting

METHOD = Method(
    title="Random",
    description="random real images",
    how=Selecting(choose=lambda candidates: candidates.random()),
    unused=UNTRAINED,
    settings=lambda recipe: coreset_options(),
    compared_with=(),
)
