"""Made-up results of searches, and the config that they are of."""

from idm_ray.config import RunConfig
from idm_ray.recipes import Facts, resolve_options
from idm_ray.searches.trials import TrialResult

# As digits are: recognised by their name, 8x8, about 143 training images of each class.
DIGITS = Facts(known_as="digits", image_shape=(1, 8, 8), train_counts=(143,) * 10)
CIFAR100 = Facts(known_as="cifar100", image_shape=(3, 32, 32), train_counts=(500,) * 100)


def config_of(facts=DIGITS, **given):
    """The config of a run, as its recipe completes it."""
    return RunConfig.from_flat(resolve_options(given, facts)[0])


def labels(points):
    return [point.label for point in points]


def trial(label="0.5", seed=0, accuracies=(0.8, 0.9), **changes):
    fields = {
        "search": "lambda_reg",
        "label": label,
        "options": {"lambda_reg": float(label)} if label[0].isdigit() else {},
        "seed": seed,
        "status": "done",
        "accuracies": accuracies,
        "seconds": 12.5,
        "iterations": 40,
        "folder": f"runs/{label}-{seed}",
    }
    return TrialResult(**{**fields, **changes})
