"""What a search is: named points of options to try, the axis of its figure, the space it draws."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method

Scale = Literal["linear", "log", "bars", "trials"]

METRIC = "accuracy, %"
"""What searches compare: mean accuracy of fresh networks trained on the condensed set."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One setting to try.

    Attributes:
        label: short, different for each point of a search.
        options: flat options that it sets; they win over those of the run.
    """

    label: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """The horizontal axis of a search's figure.

    Attributes:
        label: what is on it; may hold matplotlib's formulas.
        scale: of the values; log shows a value of 0 beside the others. bars: labels instead of
            values. trials: points in the order in which they were drawn.
        source: figure or table of the paper that has this axis; empty if none has.
    """

    label: str
    scale: Scale
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """Any number between two, each as likely."""

    low: float
    high: float

    @property
    def ends(self) -> tuple[float, ...]:
        """Values that are allowed if all are."""
        return (self.low, self.high)

    def nearest(self, value: float) -> float:
        """The value that can be drawn and is nearest to one."""
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """A number between two, both included, each order of magnitude as likely.

    Where both are whole (of type int), so are all.
    """

    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[float, ...]:
        """Values that are allowed if all are."""
        return (self.low, self.high)

    def nearest(self, value: float) -> float:
        """The value that can be drawn and is nearest to one."""
        return min(max(value, self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}, log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of some values, each as likely."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def nearest(self, value: Any) -> Any:
        """The value itself if it can be drawn, else the first one."""
        return value if value in self.values else self.values[0]

    def __str__(self) -> str:
        return ", ".join(map(value_text, self.values))


Distribution = Uniform | LogUniform | Choice

Points = Callable[[RunConfig], tuple[Point, ...]]
Space = Callable[[RunConfig], Mapping[str, Distribution]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A search, before it is known of what run.

    Attributes:
        name: as `--search` takes it.
        description: what it varies, for people.
        varies: flat names of the options that it sets.
        axis: of its figure.
        metric: what is compared; larger is better.
        grid: the points for a settled config; none if the search has no grid.
        space: what each option is drawn from in a search within a budget; empty if its points are
            not independent options.
    """

    name: str
    description: str
    varies: tuple[str, ...]
    axis: Axis
    grid: Points
    space: Space
    metric: str = METRIC

    def points(self, config: RunConfig) -> tuple[Point, ...]:
        """The points of the grid for a run, each of them a config that is allowed.

        Raises:
            UserError: the method of the run does not have what is varied, or a value is wrong.
        """
        self._check_method(config)
        points = self.grid(config)
        for point in points:
            config.replace(**point.options)
        return points

    def distributions(self, config: RunConfig) -> Mapping[str, Distribution]:
        """What each option is drawn from, for a run; empty if the search is a grid only.

        Raises:
            UserError: the method of the run does not have what is varied.
        """
        self._check_method(config)
        return self.space(config)

    def _check_method(self, config: RunConfig) -> None:
        method = config.condense.method
        unused = [name for name in self.varies if name in find_method(method).unused]
        if unused:
            raise UserError(
                f"search {self.name} varies {', '.join(unused)}, expected method idm, got "
                f"{method}, which does not have them; leave out --method"
            )


def of_option(
    option: str,
    description: str,
    values: Callable[[RunConfig], Iterable[Any]],
    axis: Axis,
) -> Search:
    """A search over one option.

    Args:
        option: its flat name, and the name of the search.
        description: for people.
        values: to try in a run; the same one twice counts once.
        axis: of its figure.
    """

    def tried(config: RunConfig) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(values(config)))

    return Search(
        name=option,
        description=description,
        varies=(option,),
        axis=axis,
        grid=lambda config: tuple(
            Point(label=value_text(value), options={option: value}) for value in tried(config)
        ),
        space=lambda config: {option: Choice(values=tried(config))},
    )


def multiples(value: float, factors: Iterable[float]) -> list[float]:
    """A value times some factors, without the noise of binary fractions."""
    return [float(f"{value * factor:.6g}") for factor in factors]


def whole_multiples(value: int, factors: Iterable[float]) -> list[int]:
    """A whole number times some factors, rounded to whole numbers, at least 1."""
    return sorted({max(1, round(value * factor)) for factor in factors})


def value_text(value: Any) -> str:
    """A value as it is shown and told apart."""
    return f"{value:g}" if isinstance(value, float) else str(value)
