"""What the methods that match distributions share: their matcher."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what lists methods loads nothing heavy
    from idm_ray.algorithm.matcher import Classes, Matcher


def match_distributions(classes: "Classes") -> "Matcher":
    """Match mean features."""
    from idm_ray.algorithm.distribution_matching import (  # noqa: PLC0415 -- when it is needed
        DistributionMatching,
    )

    return DistributionMatching(classes)
