"""K-means: the images nearest to the centres of as many clusters of their class's features."""

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from idm_ray.algorithm.coresets import nearest_to_each
from idm_ray.methods.coreset import TRAINED, after_training, trained_options
from idm_ray.methods.method import Candidates, Method, Selecting

# Lloyd's algorithm is started so many times, and the best kept.
_STARTS = 3


def _choose(candidates: Candidates) -> Tensor:
    features = candidates.features(0).cpu().numpy()
    seed = int(torch.randint(2**31, (1,), generator=candidates.draws))
    clusters = KMeans(candidates.ipc, n_init=_STARTS, random_state=np.random.RandomState(seed))
    with threadpool_limits(1):  # sums in one order, whatever the threads of the run
        centres = torch.from_numpy(clusters.fit(features).cluster_centers_)
    return nearest_to_each(torch.from_numpy(features), centres)


METHOD = Method(
    title="K-means",
    description="real images nearest to the centres of clusters of their class's features",
    how=Selecting(choose=_choose, looks_at=after_training),
    unused=TRAINED,
    settings=lambda recipe: trained_options(40),
    compared_with=("random",),
)
