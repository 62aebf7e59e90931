"""Improved distribution matching: the method of the paper (Sec. 4)."""

from idm_ray.methods.distributions import match_distributions
from idm_ray.methods.method import Matching, Method

METHOD = Method(
    title="IDM",
    description="improved distribution matching",
    how=Matching(matcher=match_distributions),
    unused=("outer_rounds", "inner_epochs"),
)
