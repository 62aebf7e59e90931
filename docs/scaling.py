"""Makes the tables and the plot of scaling.md: `python docs/scaling.py`, with the extra `docs`."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from matplotlib import pyplot

from idm_ray.building import build_network
from idm_ray.config import RunConfig
from idm_ray.layout import cut_groups, settle
from idm_ray.recipes import PUBLISHED
from idm_ray.scaling import (
    H100,
    IterationTime,
    Parts,
    best_trainers,
    class_seconds,
    conv_outputs,
    crew_with_trainers,
    iteration_time,
    step_seconds,
)

GPUS = (1, 2, 4, 8, 16, 32, 64)
GPUS_PER_NODE = 8
FLOAT_BYTES = 4


@dataclass(frozen=True)
class Run:
    """A published recipe at 10 images per class, on assumed H100s."""

    recipe: str
    num_classes: int
    size: int

    @cached_property
    def config(self) -> RunConfig:
        """Settled."""
        config = RunConfig.from_flat({**PUBLISHED[self.recipe][10], "ipc": 10})
        return settle(config, (3, self.size, self.size), self.num_classes)

    @cached_property
    def parts(self) -> Parts:
        """Of an iteration; every class has more images than a batch."""
        config, shape = self.config, (3, self.size, self.size)
        condense, queue = config.condense, config.queue
        network = build_network(condense.network, shape, self.num_classes)
        outputs, real = conv_outputs(network, shape), condense.batch_real
        steps = queue.num_trained_models * queue.train_steps / queue.train_interval
        weights = sum(parameter.numel() for parameter in network.parameters())
        return Parts(
            class_s=class_seconds(H100, config, outputs=outputs, real_images=real),
            train_s=steps * step_seconds(H100, config, outputs=outputs),
            num_models=queue.queue_size,
            snapshot_bytes=FLOAT_BYTES * weights * condense.num_matched_models,
        )

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Labels of each group's classes."""
        return cut_groups(self.num_classes, int(self.config.condense.classes_per_group))

    def time(self, gpus: int, trainers: int = 1) -> IterationTime:
        """Of an iteration."""
        return iteration_time(self.parts, crew_with_trainers(self.groups, gpus, trainers))

    def best(self, gpus: int) -> int:
        """Number of trainers."""
        return best_trainers(self.parts, self.groups, gpus)

    def sent_bytes_per_s(self, gpus: int) -> float:
        """What leaves the queue's node: each other node fetches each snapshot once."""
        trainers = self.best(gpus)
        used = len(crew_with_trainers(self.groups, gpus, trainers).shares)
        nodes = -(-min(used, gpus) // GPUS_PER_NODE)
        return self.parts.snapshot_bytes * (nodes - 1) / self.time(gpus, trainers).seconds


RUNS = {
    "CIFAR-10": Run("cifar10", num_classes=10, size=32),
    "ImageNet-1K at 224": Run("imagenet_subset", num_classes=1000, size=224),
}


def print_tables() -> None:
    """The tables of the page, in its own notation."""
    for name, run in RUNS.items():
        parts = run.parts
        match_s = parts.class_s * run.num_classes
        print(f"\n{name}: matching {1e3 * match_s:.1f} ms, training {1e3 * parts.train_s:.1f} ms")
        print(f"{len(run.groups)} groups, snapshot {parts.snapshot_bytes / 1e6:.1f} MB\n")
        print("| GPUs | 1 trainer, ms | limited by | best trainers | ms | sent, MB/s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for gpus in GPUS:
            one, trainers = run.time(gpus), run.best(gpus)
            best = run.time(gpus, trainers)
            print(f"| {gpus} | {1e3 * one.seconds:.1f} | {one.bottleneck} | {trainers}", end=" ")
            print(f"| {1e3 * best.seconds:.1f} | {run.sent_bytes_per_s(gpus) / 1e6:.0f} |")


def plot(path: Path) -> None:
    """Iterations per second against GPUs, with one trainer and with the best number."""
    figure, axes = pyplot.subplots(1, len(RUNS), figsize=(9, 3.6), layout="constrained")
    for axis, (name, run) in zip(axes, RUNS.items(), strict=True):
        one = [1 / run.time(gpus).seconds for gpus in GPUS]
        best = [1 / run.time(gpus, run.best(gpus)).seconds for gpus in GPUS]
        axis.plot(GPUS, [one[0] * gpus for gpus in GPUS], ":", color="0.6", label="linear")
        axis.plot(GPUS, best, "o-", label="best number of trainers (model)")
        axis.plot(GPUS, one, "s-", label="one trainer (today)")
        axis.set(title=name, xlabel="GPUs", xscale="log", yscale="log", xticks=GPUS)
        axis.set_xticklabels(GPUS)
        axis.minorticks_off()
    axes[0].set_ylabel("iterations per second")
    axes[0].legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    print_tables()
    plot(Path(__file__).parent / "images" / "scaling.png")
