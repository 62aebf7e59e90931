"""Makes the tables and the plot of scaling.md: `python docs/scaling.py`, with the extra `docs`."""

from pathlib import Path

from matplotlib import pyplot

from idm_ray.config import RunConfig
from idm_ray.layout import settle
from idm_ray.recipes import PUBLISHED
from idm_ray.scaling import Parts, best_trainers, iteration_time, parts_of, sent_bytes

# Assumed, not measured: an H100 moves 3.35 TB/s, and a forward pass with fused norm, ReLU and
# pooling moves 3.25 times the convolutions' outputs, in 2 bytes each.
H100_BYTES_PER_S = 3.35e12
BYTES_PER_ELEMENT = 3.25 * 2
CONV_OUTPUTS = {"convnet-3": 172_032, "convnet-6": 8_561_280}

GPUS = (1, 2, 4, 8, 16, 32, 64)
GPUS_PER_NODE = 8


def of_recipe(recipe: str, images_per_class: int, num_classes: int, size: int) -> Parts:
    """The parts of a published recipe at 10 images per class, on assumed H100s."""
    config = RunConfig.from_flat({**PUBLISHED[recipe][10], "ipc": 10})
    shape, counts = (3, size, size), (images_per_class,) * num_classes
    config = settle(config, shape, num_classes)
    elements = CONV_OUTPUTS[config.condense.network]
    rate = H100_BYTES_PER_S / (BYTES_PER_ELEMENT * elements)
    return parts_of(config, shape, counts, images_per_s=rate)


RUNS = {
    "CIFAR-10": of_recipe("cifar10", 5000, 10, 32),
    "ImageNet-1K at 224": of_recipe("imagenet_subset", 1281, 1000, 224),
}


def print_tables() -> None:
    """The tables of the page, in its own notation."""
    for name, parts in RUNS.items():
        print(f"\n{name}: matching {1e3 * parts.match_s:.1f} ms, training", end=" ")
        print(f"{1e3 * parts.train_s:.1f} ms, {parts.num_groups} groups", end=", ")
        print(f"{parts.snapshot_bytes / 1e6:.1f} MB\n")
        print("| GPUs | 1 trainer, ms | limited by | best trainers | ms | sent, MB/s |")
        print("| --- | --- | --- | --- | --- | --- |")
        for gpus in GPUS:
            one, trainers = iteration_time(parts, gpus), best_trainers(parts, gpus)
            best = iteration_time(parts, gpus, trainers)
            rate = (
                sent_bytes(parts, -(-(best.actors + trainers) // GPUS_PER_NODE))
                / best.seconds
                / 1e6
            )
            print(f"| {gpus} | {1e3 * one.seconds:.1f} | {one.bottleneck} | {trainers}", end=" ")
            print(f"| {1e3 * best.seconds:.1f} | {rate:.0f} |")


def plot(path: Path) -> None:
    """Iterations per second against GPUs, with one trainer and with the best number."""
    figure, axes = pyplot.subplots(1, len(RUNS), figsize=(9, 3.6), layout="constrained")
    for axis, (name, parts) in zip(axes, RUNS.items(), strict=True):
        one = [1 / iteration_time(parts, gpus).seconds for gpus in GPUS]
        best = [
            1 / iteration_time(parts, gpus, best_trainers(parts, gpus)).seconds for gpus in GPUS
        ]
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
