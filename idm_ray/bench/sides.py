"""The two implementations behind one interface, as the bench times them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from idm_ray.algorithm.numerics import to_network_input
from idm_ray.bench.flops import matmul_flops_per_s, synchronize
from idm_ray.bench.parts import seconds_per_part
from idm_ray.bench.published import ConvNet, Published, network_optimizer
from idm_ray.data.dataset import ImageDataset
from idm_ray.machine import peak_memory_bytes
from idm_ray.plan import Plan
from idm_ray.real_images import RealImages, check_data
from idm_ray.workers import ClassWorker, QueueWorker

_NORMALISED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one iteration; `cpu_s` are those of all its process's threads on a processor."""

    matching_s: float
    training_s: float
    cpu_s: float

    @property
    def seconds(self) -> float:
        """Of both."""
        return self.matching_s + self.training_s


class Side(ABC):
    """One implementation.

    Args:
        plan: of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self._device = plan.numerics.device

    @abstractmethod
    def match(self, iteration: int) -> None:
        """Advance the queue and the synthetic images."""

    @abstractmethod
    def train(self, iteration: int) -> None:
        """Train the queue's networks, if it is their turn."""

    def iterate(self, iteration: int) -> Timing:
        """Time one iteration."""
        cpu_before = time.process_time()
        matching_s = self._seconds(lambda: self.match(iteration))
        training_s = self._seconds(lambda: self.train(iteration))
        return Timing(matching_s, training_s, time.process_time() - cpu_before)

    def profile(self, iteration: int) -> dict[str, float]:
        """Seconds per part of one iteration."""

        def work() -> None:
            self.match(iteration)
            self.train(iteration)

        return seconds_per_part(work, self._device)

    def peak_memory_bytes(self) -> int:
        """Largest memory so far: of the GPU where one computes, else this process's own."""
        if self._device == "cuda":
            return torch.cuda.max_memory_allocated()
        return peak_memory_bytes()

    def _seconds(self, work: Callable[[], None]) -> float:
        began = time.perf_counter()
        work()
        synchronize(self._device)
        return time.perf_counter() - began


class OurSide(Side):
    """This project's implementation: the parts that `local.py` runs, in the same order."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self._queue = QueueWorker(plan)
        self._worker = ClassWorker(plan, range(len(plan.groups)))

    def match(self, iteration: int) -> None:
        """Advance the queue and the synthetic images."""
        # Of the worker's own count: in an interval it is not timed in every iteration.
        self._worker.run(self._worker.iteration, [self._queue.begin(iteration)])

    def train(self, iteration: int) -> None:
        """Train the queue's networks, if it is their turn."""
        self._queue.train(iteration)
        self._queue.release(iteration + 1)

    def matmul_flops_per_s(self) -> dict[str, float]:
        """The peak of a matrix product in this process, by precision."""
        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        return {name: matmul_flops_per_s(self._device, dtype) for name, dtype in dtypes.items()}


class PublishedSide(Side):
    """The published implementation, in float32 and uncompiled whatever the plan says."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        torch.set_num_threads(plan.numerics.threads)
        self._plan = plan
        dataset = check_data(plan.config, plan.info)
        real = RealImages(plan)
        labels = range(plan.info.num_classes)
        self._published = Published(
            plan.config,
            _normalised(dataset, self._device),
            dataset.train.offsets,
            start=torch.cat([real.start(label) for label in labels]),
            operations=plan.operations,
        )

    def match(self, iteration: int) -> None:
        """Advance the queue and the synthetic images."""
        self._published.match(iteration)

    def train(self, iteration: int) -> None:
        """Train the queue's networks, if it is their turn."""
        self._published.train()

    def bare_training(self, steps: int) -> float:
        """Images per second of nothing but training steps on one fixed batch.

        The published implementation must reach this in its training, or it is not what it claims.
        """
        config, info = self._plan.config, self._plan.info
        depth = int(config.condense.network.removeprefix("convnet-"))
        network = ConvNet(info.image_shape, info.num_classes, depth).to(self._device)
        optimizer = network_optimizer(network, config)
        images = torch.randn(config.queue.batch_train, *info.image_shape, device=self._device)
        labels = torch.arange(len(images), device=self._device) % info.num_classes

        def work() -> None:
            for _ in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(network(images), labels).backward()
                optimizer.step()

        return steps * len(images) / self._seconds(work)


def _normalised(dataset: ImageDataset, device: str) -> Tensor:
    """All training images, (N, C, H, W) float32, held in memory as the published code does."""
    pixels, info = dataset.train.images, dataset.info
    mean, std = (torch.tensor(x, device=device).reshape(-1, 1, 1) for x in (info.mean, info.std))
    images = torch.empty((len(pixels), *info.image_shape), device=device)
    # In pieces: copies of them all would be the peak of its memory.
    cuts = [*range(0, len(pixels), _NORMALISED_AT_ONCE), len(pixels)]
    for first, end in pairwise(cuts):
        some = torch.from_numpy(pixels.take(np.arange(first, end))).to(device)
        images[first:end] = to_network_input(some, mean, std)
    return images
