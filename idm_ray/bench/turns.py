"""Ours and the published implementation in turns: one computes while the other waits."""

from dataclasses import dataclass
from statistics import harmonic_mean

from idm_ray.bench.process import InProcess
from idm_ray.bench.sides import Timing
from idm_ray.plan import Plan

# Steps of the bare loop, before and after each turn of the published side: fewer are too short to
# time. All others: as many in all as one network of the queue gets.
MIN_BARE_STEPS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One implementation in one round: an iteration that trains, and one that does not.

    Attributes:
        interval: iterations of which one trains; with 1 there is no other.
        training: the iteration that trains.
        plain: one that does not, or None.
    """

    interval: int
    training: Timing
    plain: Timing | None

    @property
    def seconds(self) -> float:
        """Per iteration, weighted as they occur: 1 : interval - 1."""
        plain = self.plain.seconds if self.plain else None
        return _per_iteration(self.interval, self.training.seconds, plain)

    @property
    def cpu_s(self) -> float:
        """The same on processors."""
        plain = self.plain.cpu_s if self.plain else None
        return _per_iteration(self.interval, self.training.cpu_s, plain)


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Both implementations, one after the other, and the machine meanwhile.

    Attributes:
        ours: this project.
        published: Algorithm 1 as published.
        bare_images_per_s: of the bare training loop, run before and after the published side.
        matmul_flops_per_s: of a matrix product, by precision.
    """

    ours: Turn
    published: Turn
    bare_images_per_s: float
    matmul_flops_per_s: dict[str, float]


class Turns:
    """Both implementations of a plan, each in its process, one computing at a time.

    Args:
        plan: of the run.
        ours: an `OurSide` in its process.
        published: a `PublishedSide` in its process.
    """

    def __init__(self, plan: Plan, ours: InProcess, published: InProcess) -> None:
        queue = plan.config.queue
        self._ours, self._published = ours, published
        self._interval = queue.train_interval
        self._bare_steps = max(MIN_BARE_STEPS, queue.train_steps // 2)
        self._next = 0

    def warm_up(self) -> float:
        """Run an iteration of each; our seconds."""
        at = self._advance()
        first: Timing = self._ours.call("iterate", at)
        self._published.call("iterate", at)
        return first.seconds

    def round(self) -> Round:
        """One turn of each."""
        at = self._advance()
        matmul = self._ours.call("matmul_flops_per_s")
        ours = self._turn(self._ours, at)
        before = self._published.call("bare_training", self._bare_steps)
        published = self._turn(self._published, at)
        after = self._published.call("bare_training", self._bare_steps)
        return Round(
            ours=ours,
            published=published,
            bare_images_per_s=harmonic_mean([before, after]),
            matmul_flops_per_s=matmul,
        )

    def peaks(self) -> tuple[int, int]:
        """Peak memory in bytes, ours and published; before anything is profiled."""
        ours, published = (s.call("peak_memory_bytes") for s in (self._ours, self._published))
        return ours, published

    def parts(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds per part of an iteration, ours and published."""
        at = self._advance()
        return self._parts(self._ours, at), self._parts(self._published, at)

    def _advance(self) -> int:
        """The number of the next iteration that trains."""
        at, self._next = self._next, self._next + self._interval
        return at

    def _turn(self, side: InProcess, at: int) -> Turn:
        training = side.call("iterate", at)
        plain = side.call("iterate", at + 1) if self._interval > 1 else None
        return Turn(interval=self._interval, training=training, plain=plain)

    def _parts(self, side: InProcess, at: int) -> dict[str, float]:
        training = side.call("profile", at)
        plain = side.call("profile", at + 1) if self._interval > 1 else {}
        parts = {
            name: _per_iteration(self._interval, value, plain.get(name))
            for name, value in training.items()
        }
        # Neither implementation waits for another process or goes through Ray here.
        return {**parts, "waiting": 0.0, "ray": 0.0}


def _per_iteration(interval: int, training: float, plain: float | None) -> float:
    """The mean over an interval: one iteration that trains, the others plain."""
    return (training + (interval - 1) * (plain or 0.0)) / interval
