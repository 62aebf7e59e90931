"""What a run is made of: the plan that every process builds its part from, and evaluation jobs."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from idm_ray.algorithm.augment import allowed_operations
from idm_ray.algorithm.model_start import epoch_steps, pretraining_steps
from idm_ray.algorithm.networks import Network
from idm_ray.algorithm.numerics import Numerics
from idm_ray.building import build_network
from idm_ray.checks import parse_iterations
from idm_ray.config import RunConfig
from idm_ray.data.dataset import DatasetInfo
from idm_ray.layout import cut_groups
from idm_ray.methods.catalog import find_method, rounds_of
from idm_ray.methods.method import Matching, Method, Selecting

# What a network is trained on; `EvaluationJob` explains them.
Subject = Literal["condensed", "start", "random", "whole"]
# Images that a network is tested on: those that the option names, or those that select iterates.
TestedOn = Literal["eval_split", "validation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One network to train on all real images, and when it is looked at.

    Attributes:
        member: its number, which names its draws.
        steps: after how many steps it is looked at, ascending; with the last its training ends.
    """

    member: int
    steps: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that a process needs to build its part of a run.

    Attributes:
        config: settled: network and groups are decided.
        info: of the data; its fingerprint is checked by everyone who opens the data.
        numerics: decided for the whole run.
    """

    config: RunConfig
    info: DatasetInfo
    numerics: Numerics

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Labels of each group's classes."""
        size = self.config.condense.classes_per_group
        assert isinstance(size, int), "the config is settled"
        return cut_groups(self.info.num_classes, size)

    @property
    def operations(self) -> tuple[str, ...]:
        """Augmentations that keep the class."""
        return allowed_operations(self.info.flips)

    @property
    def copy_at(self) -> tuple[int, ...]:
        """After so many finished iterations, a copy of the images is evaluated."""
        return copy_at(self.config)

    @property
    def method(self) -> Method:
        """What makes the images."""
        return find_method(self.config.condense.method)

    @property
    def selects(self) -> bool:
        """Whether real images are chosen: there are no iterations."""
        return isinstance(self.method.how, Selecting)

    @property
    def matching(self) -> Matching:
        """How synthetic images are made, if real ones are not chosen."""
        how = self.method.how
        assert isinstance(how, Matching), "the method has iterations"
        return how

    @property
    def rounds(self) -> int:
        """Steps of the images in an iteration; between two of them, all classes meet."""
        return rounds_of(self.config.condense)

    @property
    def matched_operations(self) -> tuple[str, ...]:
        """Augmentations of what is matched; none where the method has none."""
        return self.operations if self.matching.augments else ()

    @property
    def pretraining(self) -> tuple[Lesson, ...]:
        """Networks to train on all real images before anything else."""
        queue, images = self.config.queue, sum(self.info.train_counts)
        steps = pretraining_steps(queue, images)
        if isinstance(how := self.method.how, Selecting):
            looked_at = how.looks_at(steps, epoch_steps(queue, images))
            return (Lesson(member=0, steps=looked_at),) if looked_at else ()
        return tuple(Lesson(member=n, steps=(steps,)) for n in range(queue.pretrained))

    def build_network(self) -> Network:
        """The run's network, unallocated."""
        return build_network(
            self.config.condense.network, self.info.image_shape, self.info.num_classes
        )


def copy_at(config: RunConfig) -> tuple[int, ...]:
    """After how many finished iterations a copy of the images is evaluated, in their order."""
    every, named = config.evaluation.eval_interval, config.evaluation.eval_at
    iterations = config.condense.iterations
    regular = range(every, iterations, every) if every else ()
    own = parse_iterations("eval_at", named) if named else ()
    return tuple(sorted({*regular, *(at for at in own if at < iterations)}))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationJob:
    """One network to train and test.

    Attributes:
        subject: the condensed images; where they started; random real images; all real images.
        repeat: which of the networks.
        iteration: of the condensed images.
        split: images that it is tested on: those of the option eval_split; validation: those by
            which an iterate is selected.
    """

    subject: Subject
    repeat: int
    iteration: int
    split: TestedOn = "eval_split"

    @property
    def selects(self) -> bool:
        """Whether the accuracy is there to select an iterate by, and is not reported."""
        return self.split == "validation"

    @property
    def series(self) -> str:
        """What is shown of it stands beside that of others of this name."""
        return f"{self.subject}_{self.split}" if self.selects else self.subject

    def told(self) -> dict[str, Any]:
        """Its fields for a log; the split only where it is not that of the whole run."""
        fields = dataclasses.asdict(self)
        return fields if self.selects else {k: v for k, v in fields.items() if k != "split"}
