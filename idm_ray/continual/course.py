"""What is asked: in how many steps, over which orders, with which memories; and what that takes."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from idm_ray.checks import at_least, refuse_unknown, wrong
from idm_ray.config import METHODS, option_names
from idm_ray.continual.orders import class_order, cut
from idm_ray.errors import UserError

# Sec. 5.6: no tiles, so that all methods store the same; 3 networks as in the published code.
DEFAULTS: Final[Mapping[str, Any]] = {"ipc": 20, "repeats": 3, "partition": 1}

# What the runs that make memories have no say in: networks are trained on all memories so far.
DECIDED: Final[Mapping[str, Any]] = {
    "eval_interval": 0,
    "eval_at": None,
    "baselines": "off",
    "whole_epochs": 0,
}

# Those of Fig. 8, and herding.
_DEFAULT_METHODS: Final = ("random", "herding", "dsa", "dm", "idm")


def default_methods() -> tuple[str, ...]:
    """Those that are compared unless others are named."""
    return tuple(name for name in _DEFAULT_METHODS if name in METHODS)


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkJob:
    """One network to train on the memories so far, and to test on the classes so far.

    Attributes:
        method: that made the memories.
        order: seed of the class order.
        step: the last one so far, from 1.
        repeat: which of the networks.
    """

    method: str
    order: int
    step: int
    repeat: int

    def __str__(self) -> str:
        """For people."""
        return f"{self.method}, order {self.order}, step {self.step}, network {self.repeat}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """What is to be learned, and how often.

    Attributes:
        steps: in which the classes come.
        orders: of classes; their seeds follow that of the options.
        methods: that make memories, each once.
    """

    steps: int = 5
    orders: int = 5
    methods: tuple[str, ...] = default_methods()

    def __post_init__(self) -> None:
        """Check each value."""
        for name in ("steps", "orders"):
            if type(getattr(self, name)) is not int:
                raise wrong(name, getattr(self, name), "a whole number")
            at_least(name, getattr(self, name), 1)
        refuse_unknown(self.methods, METHODS, what="method")
        if not self.methods or len({*self.methods}) < len(self.methods):
            given = ", ".join(self.methods) or "none"
            raise UserError(f"methods must be one or more, each once, got {given}")


def parse_methods(written: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(name for part in written.split(",") if (name := part.strip()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A course over the classes of some data: every network of it.

    Attributes:
        course: what is asked.
        seed: of the first order.
        repeats: networks for each method, order and step.
        num_classes: of the data.
    """

    course: Course
    seed: int
    repeats: int
    num_classes: int

    @property
    def orders(self) -> range:
        """The seeds of all orders."""
        return range(self.seed, self.seed + self.course.orders)

    def steps(self, order: int) -> tuple[tuple[int, ...], ...]:
        """The labels of each step in an order."""
        return cut(class_order(order, self.num_classes), self.course.steps)

    @property
    def seen(self) -> tuple[int, ...]:
        """After each step, how many classes have come; the same in all orders."""
        return tuple(itertools.accumulate(map(len, self.steps(self.seed))))

    def groups(self) -> Iterator[tuple[str, int, tuple[NetworkJob, ...]]]:
        """Method, order, and their networks, which share one set of memories.

        The last steps come first, as they take longest.
        """
        for order, method in itertools.product(self.orders, self.course.methods):
            places = itertools.product(range(self.course.steps, 0, -1), range(self.repeats))
            jobs = (
                NetworkJob(method=method, order=order, step=step, repeat=repeat)
                for step, repeat in places
            )
            yield method, order, tuple(jobs)

    def jobs_of(self, method: str, step: int) -> list[NetworkJob]:
        """The networks behind one figure, in the order of orders and repeats."""
        return [
            NetworkJob(method=method, order=order, step=step, repeat=repeat)
            for order, repeat in itertools.product(self.orders, range(self.repeats))
        ]


def options_of_runs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of all runs, but for what each memory has of its own.

    Args:
        given: flat options of the user.

    Raises:
        UserError: an unknown option, or one that is decided here.
    """
    refuse_unknown(given, option_names())
    if "method" in given:
        raise UserError(
            f"expected methods for the memories of continual learning, got method "
            f"{given['method']}; use --methods {given['method']}"
        )
    for name, value in DECIDED.items():
        if name in given and given[name] != value:
            raise UserError(
                f"expected no {name} for continual learning, whose memories are evaluated "
                f"together, got {given[name]}; leave it out"
            )
    options = {**DEFAULTS, **given, **DECIDED}
    if options["repeats"] == 0:
        raise UserError("repeats must be at least 1 for continual learning, got 0")
    return options
