"""Learning rate of the synthetic images: the option that new data most often need changed."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, multiples, of_option


def values(config: RunConfig) -> list[float]:
    """A fifth to five times the run's rate."""
    return multiples(config.condense.lr_img, (0.2, 0.5, 1, 2, 5))


SEARCH = of_option(
    "lr_img",
    "learning rate of the synthetic images",
    values,
    Axis(label="learning rate of the images", scale="log"),
)
