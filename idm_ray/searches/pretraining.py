"""Distribution matching on networks that were trained before (Fig. 3).

Beside it DM on random networks, and the model queue, which needs no number of epochs.
"""

from idm_ray.config import RunConfig
from idm_ray.methods.dm import dm_options
from idm_ray.searches.components import plain_matching, queue_alone
from idm_ray.searches.search import Axis, Point, Search

PAPER = (10, 20, 30, 40, 50, 60)
# The paper has 600; each is trained once for every number of epochs and every seed.
_NETWORKS = 5


def points(config: RunConfig) -> tuple[Point, ...]:
    """DM as it is, on pretrained networks instead, and the run's queue of random networks.

    Every iteration is matched on a copy of one of the pretrained networks, drawn anew, which is
    trained no further.
    """
    on_pretrained = {
        "method": "idm",  # for dm has no pretrained networks
        **dm_options(config.condense.batch_real),
        "pretrained": config.queue.pretrained or _NETWORKS,
        "pretrained_classes": "all",
    }
    return (
        Point(label="random networks", options={**plain_matching(config), "pretrained": 0}),
        *(
            Point(label=epochs, options={**on_pretrained, "pretrain_steps": epochs})
            for epochs in (f"{number} epochs" for number in PAPER)
        ),
        Point(label="model queue", options={**queue_alone(config), "pretrained": 0}),
    )


SEARCH = Search(
    name="pretrain_epochs",
    description=f"epochs that DM's networks are trained before ({_NETWORKS}, or --pretrained)",
    varies=("method", "queue_size", "pretrained"),
    axis=Axis(label="networks", scale="bars", source="Fig. 3"),
    grid=points,
    space=lambda config: {},
)
