"""How long an iteration takes some processes, from its parts, and those of a GPU that is not here.

Pure arithmetic. Class actors, the trainer of the queue and the driver work side by side, so the
slowest of them sets the time of an iteration. Today's runtime has one trainer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from idm_ray.algorithm.networks import Network
from idm_ray.config import MachineConfig, RunConfig
from idm_ray.layout import Crew, Layout, Share, crew_of, lay_out
from idm_ray.methods.catalog import find_method, rounds_of
from idm_ray.methods.method import Matching
from idm_ray.pace import WINDOW, iterations_per_call

# Processor time of one call, measured (docs/scaling.md).
ACTOR_CALL_S = 0.002
DRIVER_CALL_S = 0.001

# Processor time of putting snapshots into the object store, measured likewise.
STORE_S_PER_BYTE = 0.6e-9

# What a forward pass moves, in outputs of its convolutions: they are written, read twice by the
# norm, and a quarter is left by the pooling, with norm, ReLU and pooling in one operation.
MOVED_PER_OUTPUT = 3.25

# A forward and a backward pass move and launch so many times what a forward pass does; with the
# gradient of the weights' gradient, as many times as it has more arithmetic (ConvNet-3, counted).
BACKWARD_TOO, SECOND_ORDER_TOO = 3, 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A GPU that is not here: it waits for its memory, and before each pass for its orders.

    Attributes:
        name: of the model.
        bytes_per_s: that its memory moves.
        element_bytes: of a number in a network.
        pass_s: until the operations of a forward pass are launched.
        compile_s: until the networks of a process are compiled.
    """

    name: str
    bytes_per_s: float
    element_bytes: int
    pass_s: float
    compile_s: float

    def moved_bytes(self, outputs: float) -> float:
        """What a forward pass moves that has so many outputs of convolutions."""
        return MOVED_PER_OUTPUT * self.element_bytes * outputs

    def seconds(self, outputs: float, *, passes: float) -> float:
        """Forward passes with so many outputs of convolutions in all."""
        return self.moved_bytes(outputs) / self.bytes_per_s + passes * self.pass_s

    def training_s(self, outputs: float, *, passes: float) -> float:
        """The same with their backward passes."""
        return BACKWARD_TOO * self.seconds(outputs, passes=passes)

    def second_order_s(self, outputs: float, *, passes: float) -> float:
        """The same with the gradients of those of all weights."""
        return SECOND_ORDER_TOO * self.seconds(outputs, passes=passes)


# Nothing of this is measured: the memory's rate is the data sheet's, all of it is assumed to be
# reached; a forward pass has about 25 operations, assumed at 10 microseconds each.
H100 = Gpu(name="H100", bytes_per_s=3.35e12, element_bytes=2, pass_s=2.5e-4, compile_s=30.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What an iteration consists of.

    Attributes:
        class_s: seconds of a device to match one class.
        train_s: seconds of a device for the queue, mean of an iteration.
        num_models: networks in the queue: as many can be trained at once.
        snapshot_bytes: of the networks matched in one iteration.
        rounds: of an iteration; between two of them all classes wait for the training, and the
            training for all classes.
    """

    class_s: float
    train_s: float
    num_models: int
    snapshot_bytes: int
    rounds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class IterationTime:
    """What each side needs for an iteration, in seconds.

    Attributes:
        match_s: of the process that matches most classes.
        train_s: of each trainer, with serving the snapshots.
        driver_s: of the driver.
        together_s: of all processes in turn, on as many devices as there are.
        in_turn: whether matching and training wait for each other.
    """

    match_s: float
    train_s: float
    driver_s: float
    together_s: float
    in_turn: bool = False

    @property
    def seconds(self) -> float:
        """Of an iteration."""
        if self.in_turn:
            return max(self.match_s + self.train_s, self.driver_s, self.together_s)
        return max(self.match_s, self.train_s, self.driver_s, self.together_s)

    @property
    def bottleneck(self) -> str:
        """The side that sets the time; "devices" where processes have to take turns."""
        sides = {
            "driver": self.driver_s,
            "training": self.train_s,
            "matching": self.match_s,
            "devices": self.together_s,
        }
        return max(sides, key=lambda side: sides[side])


def iteration_time(parts: Parts, crew: Crew) -> IterationTime:
    """An iteration of some processes.

    Args:
        parts: of the iteration.
        crew: one that a driver watches runs on Ray, which costs it calls and the object store.
    """
    trainers = sum(share.queue for share in crew.shares)
    train_s = parts.train_s / min(trainers, max(1, parts.num_models))
    if crew.driver:
        train_s += parts.snapshot_bytes * STORE_S_PER_BYTE
    loads = [s.classes * parts.class_s + s.queue * train_s for s in crew.shares]
    calls = crew.driver / iterations_per_call(max(loads), WINDOW)
    if parts.rounds > 1:  # in each a step, and the images
        calls = crew.driver * 2 * parts.rounds
    call_s = ACTOR_CALL_S * calls
    return IterationTime(
        match_s=max(s.classes for s in crew.shares) * parts.class_s + call_s,
        train_s=train_s + call_s,
        driver_s=DRIVER_CALL_S * calls * len(loads),
        together_s=(sum(loads) + call_s * len(loads)) / crew.at_once,
        in_turn=parts.rounds > 1,
    )


def layout_on(machine: MachineConfig, num_groups: int, gpus: int) -> Layout:
    """The layout of a run on Ray with some GPUs, a core for each and one for the driver."""
    cpus = gpus + 1
    return lay_out(machine, num_groups=num_groups, cpus=cpus, gpus=gpus, cpus_of_a_node=cpus)


def crew_on(machine: MachineConfig, groups: Sequence[Sequence[int]], gpus: int) -> Crew:
    """The processes of that run.

    Args:
        machine: what was asked for.
        groups: labels of the classes of each group.
        gpus: at least 1.
    """
    layout = layout_on(machine, len(groups), gpus)
    return crew_of(layout, groups, cpus=gpus + 1, gpus=gpus)


def crew_with_trainers(groups: Sequence[Sequence[int]], gpus: int, trainers: int) -> Crew:
    """Processes of which so many train the queue and the others match, a GPU for each.

    Args:
        groups: labels of the classes of each group.
        gpus: a single one is shared by a class actor and a trainer.
        trainers: less than `gpus`, unless that is 1.
    """
    crew = crew_on(MachineConfig(actors=max(1, gpus - trainers)), groups, gpus)
    more = (Share(queue=True),) * (trainers - 1)
    return replace(crew, shares=(*crew.shares, *more))


def best_trainers(parts: Parts, groups: Sequence[Sequence[int]], gpus: int) -> int:
    """The number of trainers with which an iteration is shortest; the fewest of equal ones."""

    def seconds(trainers: int) -> float:
        return iteration_time(parts, crew_with_trainers(groups, gpus, trainers)).seconds

    return min(range(1, max(2, gpus)), key=seconds)


def conv_outputs(network: Network, image_shape: Sequence[int]) -> int:
    """Outputs of all convolutions for one image (C, H, W).

    Args:
        network: unallocated (device "meta"), so that nothing is computed.
        image_shape: (C, H, W).
    """
    found = 0

    def count(layer: nn.Module, inputs: tuple[Tensor], outputs: Tensor) -> None:
        nonlocal found
        found += outputs.numel()

    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in convolutions]
    network.features(torch.empty(1, *image_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def class_seconds(gpu: Gpu, config: RunConfig, *, outputs: int, real_images: int) -> float:
    """Matching one class in one iteration: its real images, and its part of its group's tiles.

    Args:
        gpu: that matches.
        config: settled.
        outputs: of the network's convolutions for one image.
        real_images: of the class, embedded for each network that is matched.
    """
    condense = config.condense
    real_passes = math.ceil(real_images / int(config.machine.images_per_pass))
    tiles = condense.ipc * condense.partition**2
    how = find_method(condense.method).how
    if isinstance(how, Matching) and how.second_order:
        real_s = gpu.training_s(real_images * outputs, passes=real_passes)
        tiles_s = gpu.second_order_s(tiles * outputs, passes=1)
        return condense.num_matched_models * rounds_of(condense) * (real_s + tiles_s)
    real_s = gpu.seconds(real_images * outputs, passes=real_passes)
    tiles_s = gpu.training_s(tiles * outputs, passes=1 / int(condense.classes_per_group))
    return condense.num_matched_models * (real_s + tiles_s)


def step_seconds(gpu: Gpu, config: RunConfig, *, outputs: int, batch: int) -> float:
    """One training step of a network that is matched, on a batch of so many images."""
    passes = math.ceil(batch / int(config.machine.images_per_pass))
    return gpu.training_s(batch * outputs, passes=passes)
