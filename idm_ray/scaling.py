"""How long an iteration takes on some devices, from its parts: pure arithmetic.

Class actors, the trainers of the queue and the driver work side by side, so the slowest of them
sets the time of an iteration. Today's runtime has one trainer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from idm_ray.algorithm.networks import build_network
from idm_ray.config import RunConfig
from idm_ray.layout import cut_groups, matching_work, training_work
from idm_ray.pace import WINDOW, iterations_per_call

# Processor time of one call, measured (docs/scaling.md).
ACTOR_CALL_S = 0.002
DRIVER_CALL_S = 0.001

# Processor time of putting snapshots into the object store, measured likewise.
STORE_S_PER_BYTE = 0.6e-9

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What an iteration consists of.

    Attributes:
        match_s: seconds to match all classes, on one device.
        train_s: seconds of the queue's training on one device, mean over its interval.
        num_groups: groups of classes; an actor owns whole ones.
        num_models: networks in the queue: as many can be trained at once.
        snapshot_bytes: of the networks matched in one iteration.
    """

    match_s: float
    train_s: float
    num_groups: int
    num_models: int
    snapshot_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IterationTime:
    """What each side needs for an iteration, in seconds.

    Attributes:
        actors: class actors; devices that neither they nor the trainers can use lie idle.
        match_s: of the actor with most groups.
        train_s: of each trainer, and of serving the snapshots.
        driver_s: of the driver.
        shared: whether matching and training take turns on one device.
    """

    actors: int
    match_s: float
    train_s: float
    driver_s: float
    shared: bool = False

    @property
    def seconds(self) -> float:
        """Of an iteration."""
        compute = self.match_s + self.train_s if self.shared else max(self.match_s, self.train_s)
        return max(compute, self.driver_s)

    @property
    def bottleneck(self) -> str:
        """The side that sets the time."""
        sides = {"driver": self.driver_s, "training": self.train_s, "matching": self.match_s}
        return max(sides, key=lambda side: sides[side])


def parts_of(
    config: RunConfig,
    image_shape: Sequence[int],
    train_counts: Sequence[int],
    *,
    images_per_s: float,
) -> Parts:
    """The parts of a run's iterations, at a rate.

    Args:
        config: settled.
        image_shape: (C, H, W).
        train_counts: training images of each class.
        images_per_s: forward passes of one device; one with its backward pass counts as three.
    """
    condense = config.condense
    size = condense.classes_per_group
    assert isinstance(size, int), "the config is settled"
    network = build_network(condense.network, image_shape, len(train_counts))
    num_weights = sum(parameter.numel() for parameter in network.parameters())
    return Parts(
        match_s=matching_work(config, train_counts) / images_per_s,
        train_s=training_work(config) / images_per_s,
        num_groups=len(cut_groups(len(train_counts), size)),
        num_models=max(1, config.queue.queue_size),
        snapshot_bytes=BYTES_PER_WEIGHT * num_weights * condense.num_matched_models,
    )


def iteration_time(parts: Parts, devices: int, trainers: int = 1) -> IterationTime:
    """An iteration on some devices, of which `trainers` train and the others match.

    Args:
        parts: of the iteration.
        devices: at least 1. A single one is shared by an actor and a trainer, which take turns.
        trainers: less than `devices`, unless that is 1.
    """
    actors = min(max(1, devices - trainers), parts.num_groups)
    match_s = parts.match_s * math.ceil(parts.num_groups / actors) / parts.num_groups
    train_s = parts.train_s / min(trainers, parts.num_models)
    train_s += parts.snapshot_bytes * STORE_S_PER_BYTE
    iterations = iterations_per_call(max(match_s, train_s), WINDOW)
    return IterationTime(
        actors=actors,
        match_s=match_s + ACTOR_CALL_S / iterations,
        train_s=train_s + ACTOR_CALL_S / iterations,
        driver_s=DRIVER_CALL_S * (actors + trainers) / iterations,
        shared=devices == 1,
    )


def best_trainers(parts: Parts, devices: int) -> int:
    """The number of trainers with which an iteration is shortest; the fewest of equal ones."""
    return min(range(1, max(2, devices)), key=lambda t: iteration_time(parts, devices, t).seconds)


def sent_bytes(parts: Parts, nodes: int) -> int:
    """Bytes that leave the queue's node in an iteration: each other node fetches snapshots once."""
    return parts.snapshot_bytes * (nodes - 1)
