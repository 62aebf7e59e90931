"""How many tiles an image is partitioned into (Table 3)."""

from idm_ray.config import RunConfig
from idm_ray.searches.search import Axis, of_option

PAPER = (1, 2, 3)


def values(config: RunConfig) -> list[int]:
    """The paper's, and the run's."""
    return sorted({*PAPER, config.condense.partition})


SEARCH = of_option(
    "partition",
    "tiles per side, l",
    values,
    Axis(label="tiles per side $l$", scale="bars", source="Table 3"),
)
