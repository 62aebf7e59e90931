"""Numbers and results as a page writes them."""

from dataclasses import dataclass
from typing import Final

from idm_ray.page.content import Cell, Spread
from idm_ray.page.fields import Fields

_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Accuracies of networks, fractions.

    Attributes:
        mean: of them.
        std: population deviation.
        count: of networks.
        network: its architecture.
        epochs: that each was trained.
        protocol: by whose rules.
        split: of the images that they were tested on.
    """

    mean: float
    std: float
    count: int
    network: str
    epochs: int
    protocol: str
    split: str

    @classmethod
    def of(cls, fields: Fields) -> "Result":
        """Read a result as a run or a search writes it.

        Raises:
            UserError: it is none.
        """
        return cls(
            mean=fields.number("mean"),
            std=fields.number("std"),
            count=fields.count("repeats"),
            network=fields.text("network") if fields.has("network") else "network",
            epochs=fields.count("epochs"),
            protocol=fields.text("protocol"),
            split=fields.text("split") if fields.has("split") else "test",
        )

    @property
    def cell(self) -> Cell:
        """Mean and deviation in percent, with the number of networks."""
        return accuracy_cell(self.mean, self.std, self.count)

    @property
    def drawn(self) -> Cell:
        """The same, drawn."""
        return Cell(spread=Spread(mean=self.mean, std=self.std))

    def terms(self) -> str:
        """How it was measured, to stand below a table."""
        return (
            f"{self.split.capitalize()} accuracy in percent: mean ± population standard deviation "
            f"over (n) fresh networks. Protocol {self.protocol}: {self.network}, "
            f"{self.epochs:,} epochs."
        )


def accuracy_cell(mean: float, std: float, count: int, *, is_best: bool = False) -> Cell:
    """Mean ± deviation (n) in percent; of one network there is no deviation."""
    return Cell(text=spread_text(mean, std, count), is_number=True, is_best=is_best)


def spread_text(mean: float, std: float, count: int) -> str:
    """Mean ± deviation (n) in percent; of one network there is no deviation."""
    deviation = f" ± {percent(std)}" if count > 1 else ""
    return f"{percent(mean)}{deviation} ({count})"


def percent(fraction: float) -> str:
    """A fraction in percent, without the sign."""
    return f"{100 * fraction:.1f}"


def percent_text(fraction: float) -> str:
    """A fraction in percent with its sign, which stays with it at the end of a line."""
    return f"{percent(fraction)}{_NO_BREAK}%"


def share_text(fraction: float) -> str:
    """A small share in percent, such as 0.02 %."""
    digits = f"{100 * fraction:.2g}" if fraction < 0.1 else f"{100 * fraction:.0f}"
    return f"{digits}{_NO_BREAK}%"


def plural(count: int, word: str) -> str:
    """A count with its word, such as 1 image, 2,000 images."""
    endings = "es" if word.endswith("s") else "s"
    return f"{count:,} {word}{endings * (count != 1)}"


def bytes_text(count: float) -> str:
    """A size in memory or on disk."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
