"""Features in two dimensions: the principal components of real images, without their labels.

A projection that knows the labels, or that moves neighbours together, would show classes apart
that are not; this one is linear, and the same for everything that is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

Features = npt.NDArray[np.float32]
"""(N, F)."""
Labels = npt.NDArray[np.int64]
"""(N,)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Points:
    """Points in the plane.

    Attributes:
        places: (N, 2).
        labels: (N,).
    """

    places: npt.NDArray[np.float64]
    labels: Labels


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Projection:
    """Real images and the samples of sets in one plane.

    Attributes:
        real: some real images.
        sets: all samples of each set.
        variance: share of the real images' variance that each of the two components has.
    """

    real: Points
    sets: tuple[Points, ...]
    variance: tuple[float, float]


def project(
    real: Features, real_labels: Labels, sets: Sequence[tuple[Features, Labels]]
) -> Projection:
    """Project features onto the first two principal components of the real ones.

    Args:
        real: of real images, two or more.
        real_labels: their classes.
        sets: features and labels of each set.
    """
    # For many numbers scikit-learn takes a randomized method, drawn from this state: the same
    # features give the same plane.
    with np.errstate(invalid="ignore"):  # shares of nothing, where all features are alike
        pca = PCA(n_components=2, random_state=0).fit(real)
    first, second = (float(share) for share in np.nan_to_num(pca.explained_variance_ratio_))

    def placed(features: Features, labels: Labels) -> Points:
        return Points(places=pca.transform(features).astype(np.float64), labels=labels)

    return Projection(
        real=placed(real, real_labels),
        sets=tuple(placed(features, labels) for features, labels in sets),
        variance=(first, second),
    )
