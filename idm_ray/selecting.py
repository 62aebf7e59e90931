"""Choosing real images, class by class: what both runners run of a method that selects."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.state import (
    Pretrained,
)
from idm_ray.methods.method import Candidates, Selecting
from idm_ray.plan import Plan
from idm_ray.real_images import RealImages
from idm_ray.workers import Images, prepare_process


def select(plan: Plan, classes: Sequence[int], networks: Sequence[Pretrained]) -> Images:
    """The real images that the plan's method chooses, (I * ipc, C, H, W), class by class.

    Args:
        plan: of the run.
        classes: labels, I of them.
        networks: that are looked at, one for each look of the plan's lesson.
    """
    prepare_process(plan.numerics)
    how = plan.method.how
    assert isinstance(how, Selecting), "the method chooses real images"
    flat = FlatNetwork(plan.build_network(), plan.numerics).freeze() if networks else None
    with RealImages(plan) as real:
        chosen = []
        for label in classes:
            candidates = _candidates(plan, label, real, flat, networks)
            rows = how.choose(candidates).cpu().numpy()
            # A class of fewer images than asked for gives all of them, over and over.
            chosen.append(real.of_class(label, np.resize(rows, plan.config.condense.ipc)))
        return torch.cat(chosen).cpu().numpy()


def _candidates(
    plan: Plan,
    label: int,
    real: RealImages,
    flat: FlatNetwork | None,
    networks: Sequence[Pretrained],
) -> Candidates:
    count, seed = plan.info.train_counts[label], plan.config.condense.seed

    @torch.no_grad()
    def features(number: int) -> Tensor:
        assert flat is not None, "there are networks"
        flat.load(torch.from_numpy(networks[number].weights.copy()))
        rows = np.arange(count)
        parts = range(0, count, plan.numerics.images_per_pass)
        batches = (rows[first : first + plan.numerics.images_per_pass] for first in parts)
        return torch.cat([flat.features(real.of_class(label, batch)) for batch in batches])

    def is_wrong(number: int) -> Tensor:
        found = features(number)  # loads the network
        assert flat is not None, "there are networks"
        return flat.head(found).argmax(dim=1) != label

    return Candidates(
        count=count,
        ipc=min(count, plan.config.condense.ipc),
        networks=len(networks),
        features=features,
        is_wrong=is_wrong,
        random=lambda: torch.from_numpy(real.random_rows(label)),
        draws=generator(seed, "select", label),
    )
