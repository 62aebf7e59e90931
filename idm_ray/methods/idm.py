"""Improved distribution matching: the method of the paper (Sec. 4)."""

from idm_ray.algorithm.distribution_matching import DistributionMatching
from idm_ray.methods.method import Matching, Method

METHOD = Method(
    title="IDM",
    description="improved distribution matching",
    how=Matching(matcher=DistributionMatching),
    unused=("outer_rounds", "inner_epochs"),
)
