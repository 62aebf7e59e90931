"""Trains the networks of a course: one after the other in this process, or as tasks on Ray."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from idm_ray.config import RunConfig
from idm_ray.continual.course import NetworkJob
from idm_ray.continual.memories import Memories
from idm_ray.continual.network import Score, train_and_test
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import evaluation_work
from idm_ray.local import LocalRunner
from idm_ray.plan import Plan
from idm_ray.progress import Announcement

Group = tuple[Memories, tuple[NetworkJob, ...]]
"""Networks that are trained on the same memories."""
Found = Announcement | tuple[NetworkJob, Score]


class Training(Protocol):
    """Trains networks, wherever."""

    plan: Plan
    notes: tuple[str, ...]
    processors: tuple[str, ...]

    def results(self, groups: Iterable[Group]) -> Iterator[Found]:
        """Train and test all networks; what each came to, in the order of their ends."""

    def close(self) -> None:
        """Stop what is under way."""


class LocalTraining:
    """Trains networks in this process.

    Args:
        config: settled for the whole data.
        info: of the whole data.
        pixels: through networks, by which compiling is decided.
    """

    def __init__(self, config: RunConfig, info: DatasetInfo, *, pixels: float) -> None:
        runner = LocalRunner(config, info, {}, pixels=pixels)
        self.plan = runner.plan
        self.notes: tuple[str, ...] = runner.notes
        self.processors: tuple[str, ...] = runner.processors

    def results(self, groups: Iterable[Group]) -> Iterator[Found]:
        """As `Training.results`."""
        for memories, jobs in groups:
            for job in jobs:
                yield job, train_and_test(self.plan, job, memories)

    def close(self) -> None:
        """Nothing is under way."""


def make_training(config: RunConfig, info: DatasetInfo) -> Training:
    """Whoever trains the networks, as a settled config of the whole data asks for it."""
    # Of one network: asking for more of them later must not decide about the arithmetic.
    one = config.replace(repeats=1)
    pixels = evaluation_work(one, info.image_shape, info.num_classes)
    if config.machine.local:
        return LocalTraining(config, info, pixels=pixels)
    from idm_ray.runtime.trainings import Trainings  # noqa: PLC0415 -- heavy, and none where local

    return Trainings(train_and_test, config, info, pixels=pixels)
