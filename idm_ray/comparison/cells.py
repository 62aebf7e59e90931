"""The cells of a comparison's table: what its sets and networks found, put together."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from idm_ray.comparison.examinations import Examined


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A set that was made, as far as its cell says it.

    Attributes:
        iterations: updates of its images.
        seconds: that making it took.
        peak_memory_bytes: of all processes that made it.
        folder: of its run, below the comparison's.
    """

    iterations: int
    seconds: float
    peak_memory_bytes: int
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One method at one number of images per class, evaluated on one network.

    Attributes:
        method: as `--methods` takes it.
        ipc: images per class; None for all real images.
        ratio: share of the training images that is kept.
        network: that the sets were condensed with; None if none was used.
        evaluated_on: network that was trained on them.
        protocol: of that training.
        epochs: of that training.
        made: the sets, by seed.
        accuracies: fractions, by seed, in the order of the repeats.
        train_seconds: that training and testing took, by seed.
        failed: why there is no set, by seed.
    """

    method: str
    ipc: int | None
    ratio: float
    network: str | None
    evaluated_on: str
    protocol: str
    epochs: int
    made: Mapping[int, Made] = field(default_factory=dict)
    accuracies: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    train_seconds: Mapping[int, float] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two cells share; all real images are trained on for any number of epochs."""
        epochs = self.epochs if self.ipc is not None else None
        return (self.method, self.ipc, self.network, self.evaluated_on, self.protocol, epochs)

    @property
    def all_accuracies(self) -> list[float]:
        """Of all networks, seed by seed."""
        return [accuracy for found in self.accuracies.values() for accuracy in found]

    @property
    def mean(self) -> float | None:
        """Mean accuracy, a fraction; None before the first."""
        return float(np.mean(self.all_accuracies)) if self.all_accuracies else None

    @property
    def std(self) -> float | None:
        """Population deviation over all networks of all seeds, a fraction."""
        return float(np.std(self.all_accuracies)) if self.all_accuracies else None

    @property
    def row(self) -> tuple[str, str | None]:
        """What cells of one row of the table share."""
        return self.method, self.network

    @property
    def column(self) -> tuple[int | None, str]:
        """What cells of one column share."""
        return self.ipc, self.evaluated_on

    @property
    def first(self) -> Made | None:
        """The set of the first seed that has one."""
        return next(iter(self.made.values()), None)

    @property
    def evaluate_seconds(self) -> float:
        """Of training and testing all networks."""
        return sum(self.train_seconds.values())

    def with_set(self, seed: int, made: Made) -> "Cell":
        """The same with the set of a seed."""
        failed = {other: cause for other, cause in self.failed.items() if other != seed}
        return dataclasses.replace(self, made={**self.made, seed: made}, failed=failed)

    def with_networks(self, seed: int, found: Mapping[int, Examined]) -> "Cell":
        """The same with all networks that were trained on the set of a seed, by repeat."""
        accuracies = tuple(found[repeat].accuracy for repeat in sorted(found))
        seconds = sum(examined.seconds for examined in found.values())
        return dataclasses.replace(
            self,
            accuracies={**self.accuracies, seed: accuracies},
            train_seconds={**self.train_seconds, seed: seconds},
        )

    def without(self, seed: int, cause: str) -> "Cell":
        """The same where the set of a seed could not be made."""
        return dataclasses.replace(self, failed={**self.failed, seed: cause})


def gain(cell: Cell, cells: Iterable[Cell]) -> float | None:
    """How far a cell is above random real images under the same conditions, a fraction.

    None where there is no such cell, or one of the two is still empty.
    """
    for other in cells:
        same = (other.column, other.protocol, other.epochs) == (
            cell.column,
            cell.protocol,
            cell.epochs,
        )
        if other.method == "random" and same and other.mean is not None and cell.mean is not None:
            return cell.mean - other.mean
    return None


def told(cell: Cell, cells: Sequence[Cell]) -> dict[str, Any]:
    """A cell as results.json has it."""
    return {
        "method": cell.method,
        "ipc": cell.ipc,
        "ratio": cell.ratio,
        "network": cell.network,
        "evaluated_on": cell.evaluated_on,
        "protocol": cell.protocol,
        "epochs": cell.epochs,
        "mean": cell.mean,
        "std": cell.std,
        "repeats": len(cell.all_accuracies),
        "gain_over_random": gain(cell, cells),
        "seeds": [_told_seed(cell, seed) for seed in {**cell.made, **cell.accuracies}],
        "iterations": cell.first.iterations if cell.first else None,
        "condense_seconds": mean_of(made.seconds for made in cell.made.values()),
        "evaluate_seconds": cell.evaluate_seconds,
        "peak_rss_bytes": max((m.peak_memory_bytes for m in cell.made.values()), default=None),
        "folder": cell.first.folder if cell.first else None,
        "failed": {str(seed): cause for seed, cause in cell.failed.items()},
    }


def _told_seed(cell: Cell, seed: int) -> dict[str, Any]:
    made = cell.made.get(seed)
    return {
        "seed": seed,
        "accuracies": list(cell.accuracies.get(seed, ())),
        "train_seconds": cell.train_seconds.get(seed, 0.0),
        "set": dataclasses.asdict(made) if made else None,
    }


def from_told(told: Mapping[str, Any]) -> Cell:
    """The cell that `told` made a mapping of.

    Raises:
        ValueError, TypeError, KeyError: it did not.
    """
    same = ("method", "ipc", "ratio", "network", "evaluated_on", "protocol", "epochs")
    seeds = told["seeds"]
    return Cell(
        **{name: told[name] for name in same},
        made={one["seed"]: Made(**one["set"]) for one in seeds if one["set"]},
        accuracies={
            one["seed"]: tuple(map(float, one["accuracies"])) for one in seeds if one["accuracies"]
        },
        train_seconds={one["seed"]: float(one["train_seconds"]) for one in seeds},
        failed={int(seed): str(cause) for seed, cause in told["failed"].items()},
    )


def mean_of(values: Iterable[float]) -> float | None:
    """Their mean; None of nothing."""
    found = list(values)
    return float(np.mean(found)) if found else None
