"""What is computed in an analysis: all real training images go by once, a batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from idm_ray.algorithm.evaluate import accuracy
from idm_ray.algorithm.numerics import FlatNetwork
from idm_ray.analysis.consistency import Nearest, consistency_ratios
from idm_ray.analysis.features import FeatureSpace, embed, embed_set, feature_network
from idm_ray.analysis.projection import Projection, project
from idm_ray.analysis.sets import NamedSet
from idm_ray.execution import Listener, Started
from idm_ray.host import keep_freed_memory
from idm_ray.plan import Plan
from idm_ray.progress import Advanced, Announcement
from idm_ray.real_images import RealImages
from idm_ray.report import pretrained_text

# Real images in a picture, of each class and of all: more hide each other.
_OF_A_CLASS, _OF_ALL = 200, 5000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """What was found.

    Attributes:
        space: in which.
        ratios: of each set, for each k.
        num_samples: of each set, tiles counted one by one.
        projection: of the features of some real images and of all samples.
    """

    space: FeatureSpace
    ratios: tuple[tuple[float, ...], ...]
    num_samples: tuple[int, ...]
    projection: Projection


def measure(
    plan: Plan, sets: Sequence[NamedSet], ks: Sequence[int], epochs: int, listener: Listener
) -> Measured:
    """Compare the features of sets with those of all real training images.

    Args:
        plan: of the network and the data.
        sets: of these data.
        ks: numbers of neighbours, each at most that of the real images.
        epochs: of the network.
        listener: is told what happens.

    Raises:
        CondensedSetError, DataError, NonFiniteLossError: features that are no numbers, images that
            cannot be read, a network that diverged.
    """
    torch.set_num_threads(plan.numerics.threads)
    keep_freed_memory()
    network, report = feature_network(plan, epochs)
    if report is not None:
        listener(Announcement(pretrained_text(report)))
    with RealImages(plan) as real:
        real.fill_cache()
        with torch.no_grad():
            tested = accuracy(network.logits, real.test_batches())
        samples = [embed_set(network, one, plan) for one in sets]
        nearest = Nearest(torch.cat([features for features, _ in samples]), max(ks))
        shown = pictured_rows(plan.info.train_counts)
        pictured = _go_through(real, network, plan, nearest.add, shown, listener)
    labels = np.repeat(np.arange(plan.info.num_classes), plan.info.train_counts)
    neighbours = torch.from_numpy(labels)[nearest.indices().cpu()]
    of_sets = neighbours.split([len(own) for _, own in samples])
    return Measured(
        space=_space_of(plan, epochs, tested, pictured.shape[1]),
        ratios=tuple(
            consistency_ratios(near, own.cpu(), ks)
            for near, (_, own) in zip(of_sets, samples, strict=True)
        ),
        num_samples=tuple(len(own) for _, own in samples),
        projection=project(
            pictured,
            labels[shown],
            [(features.cpu().numpy(), own.cpu().numpy()) for features, own in samples],
        ),
    )


def _space_of(plan: Plan, epochs: int, tested: float, num_features: int) -> FeatureSpace:
    return FeatureSpace(
        network=plan.config.condense.network,
        epochs=epochs,
        training_images=sum(plan.info.train_counts),
        test_accuracy=tested,
        split=plan.config.evaluation.eval_split,
        num_features=num_features,
        precision=plan.numerics.precision,
        seed=plan.config.condense.seed,
    )


def pictured_rows(train_counts: Sequence[int]) -> npt.NDArray[np.int64]:
    """Rows of the real images that are drawn: of each class as many, evenly spaced, ascending."""
    most = max(1, min(_OF_A_CLASS, _OF_ALL // len(train_counts)))
    firsts = np.cumsum((0, *train_counts))
    return np.concatenate(
        [
            first + np.arange(min(most, count)) * count // min(most, count)
            for first, count in zip(firsts, train_counts, strict=False)
        ]
    )


def _go_through(
    real: RealImages,
    network: FlatNetwork,
    plan: Plan,
    take: Callable[[torch.Tensor], None],
    kept: npt.NDArray[np.int64],
    listener: Listener,
) -> npt.NDArray[np.float32]:
    """Embed all real training images in their order; returns the features of `kept`, (M, F)."""
    whole = real.whole()
    batches = torch.arange(whole.count).split(plan.numerics.images_per_pass)
    listener(Started("embed", len(batches)))
    of_kept: list[npt.NDArray[np.float32]] = []
    for number, rows in enumerate(batches, 1):
        features = embed(network, whole.take(rows)[0])
        take(features)
        within = np.searchsorted(kept, (int(rows[0]), int(rows[-1]) + 1))
        chosen = torch.from_numpy(kept[slice(*within)] - int(rows[0])).to(features.device)
        of_kept.append(features[chosen].cpu().numpy())
        listener(Advanced(number, f"{int(rows[-1]) + 1} real images"))
    return np.concatenate(of_kept)
