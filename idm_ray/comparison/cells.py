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
        seed: of its run.
        iterations: updates of its images.
        seconds: that making it took.
        peak_memory_bytes: of all processes that made it.
        folder: of its run, below the comparison's.
    """

    seed: int
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
        made: the sets, seed by seed.
        accuracies: fractions, by seed, in the order of the repeats.
        evaluate_seconds: that training and testing took.
        failed: why there is no set, by seed.
    """

    method: str
    ipc: int | None
    ratio: float
    network: str | None
    evaluated_on: str
    protocol: str
    epochs: int
    made: tuple[Made, ...] = ()
    accuracies: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    evaluate_seconds: float = 0.0
    failed: Mapping[int, str] = field(default_factory=dict)

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

    def with_networks(self, seed: int, found: Mapping[int, Examined]) -> "Cell":
        """The same with networks that were trained on the set of a seed."""
        accuracies = tuple(found[repeat].accuracy for repeat in sorted(found))
        seconds = sum(examined.seconds for examined in found.values())
        return dataclasses.replace(
            self,
            accuracies={**self.accuracies, seed: accuracies} if found else self.accuracies,
            evaluate_seconds=self.evaluate_seconds + seconds,
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
        "seeds": [
            {"seed": seed, "accuracies": list(found)} for seed, found in cell.accuracies.items()
        ],
        "iterations": cell.made[0].iterations if cell.made else None,
        "condense_seconds": mean_of(made.seconds for made in cell.made),
        "evaluate_seconds": cell.evaluate_seconds,
        "peak_rss_bytes": max((made.peak_memory_bytes for made in cell.made), default=None),
        "folder": cell.made[0].folder if cell.made else None,
        "failed": {str(seed): cause for seed, cause in cell.failed.items()},
    }


def mean_of(values: Iterable[float]) -> float | None:
    """Their mean; None of nothing."""
    found = list(values)
    return float(np.mean(found)) if found else None
