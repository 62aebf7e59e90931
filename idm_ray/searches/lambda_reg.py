"""How much the class-aware regularization weighs (Fig. 5, whose axis cannot be read)."""

from idm_ray.config import CondenseConfig, RunConfig
from idm_ray.searches.search import Axis, multiples, of_option


def values(config: RunConfig) -> list[float]:
    """None at all, and a fifth to five times the run's weight, which differs between data sets."""
    weight = config.condense.lambda_reg or CondenseConfig().lambda_reg
    return multiples(weight, (0, 0.2, 0.5, 1, 2, 5))


SEARCH = of_option(
    "lambda_reg",
    "weight of the class-aware regularization",
    values,
    Axis(label=r"regularization weight $\lambda_{reg}$", scale="log", source="Fig. 5"),
)
