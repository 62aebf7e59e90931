"""Room for a run that somebody else holds: that of a trial among many."""

from dataclasses import dataclass
from typing import Any

from ray.util.placement_group import PlacementGroup, get_current_placement_group

from idm_ray.algorithm.numerics import Numerics
from idm_ray.layout import Layout
from idm_ray.runtime.placement import needs_of, seat_in


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """What a run is given by whoever runs several of them.

    Attributes:
        layout: of the run.
        queue: handle of a `SharedQueue` whose networks are the run's; None: it has its own.
        numerics: of that queue, and so of the run; None to decide.
    """

    layout: Layout
    queue: Any = None
    numerics: Numerics | None = None

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What the run takes: each class actor, then a queue of its own where that takes any.

        Final evaluation takes the class actors' room over from them.
        """
        actor = needs_of(self.layout) | {"CPU": _cpus(self.layout)}
        queue = {"GPU": self.layout.gpus_per_actor} if self._seats_queue else {}
        return [actor] * self.layout.actors + [queue] * bool(queue)

    @property
    def evaluation_bundle(self) -> dict[str, float]:
        """What one evaluation takes while the run goes on."""
        return needs_of(self.layout) | {"CPU": float(self.layout.threads)}

    def lodge(self, layout: Layout) -> "Lodging":
        """Seats for a layout in the placement group of this process, which holds `bundles`."""
        return Lodging(
            layout, get_current_placement_group(), queue_bundle=layout.actors * self._seats_queue
        )

    @property
    def _seats_queue(self) -> bool:
        return self.queue is None and self.layout.gpus_per_actor > 0


class Lodging:
    """Seats that somebody else holds, as a `Reservation` that is never given back.

    Args:
        layout: of the run.
        group: with a bundle for each class actor, in their order; None where there is none.
        queue_bundle: where the queue sits; 0: beside the first class actor.
    """

    is_whole = True  # who holds it looks after that

    def __init__(self, layout: Layout, group: PlacementGroup | None, *, queue_bundle: int) -> None:
        needs = needs_of(layout)
        # A shared queue sits elsewhere, with what a class actor has.
        queue = {name: amount for name, amount in needs.items() if name == "GPU"}
        self.seats = [
            *(seat_in(needs, group, n) for n in range(layout.actors)),
            seat_in(queue, group, queue_bundle),
        ]
        """Of each class actor in turn, then of the queue."""

    def extend(self, most: int) -> int:
        """There is never more room."""
        return 0

    def release(self) -> None:
        """Do nothing: whoever sits here is ended by name."""


def _cpus(layout: Layout) -> float:
    return float(max(layout.cpus_per_actor, layout.threads))
