"""What a method is: the settings that are its own, and how it makes the images of a set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from idm_ray.config import CondenseConfig, QueueConfig, option_names

if TYPE_CHECKING:  # what lists methods loads nothing heavy
    import torch
    from torch import Tensor

    from idm_ray.algorithm.matcher import MakeMatcher

Options = Mapping[str, Any]
"""Flat options of `idm_ray.config`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """The real images of one class, as a choice among them sees them.

    Attributes:
        count: how many there are, n.
        ipc: how many are to be chosen; at most n.
        networks: how many networks there are to look at the images with.
        features: (n, F) float32, embeddings by one of the networks, by its number.
        is_wrong: (n,) bool, whether that network takes them for another class.
        random: the rows (int64) of the class's random baseline; a class of fewer images than are
            asked for gives some of them more than once.
        draws: of this class and seed alone.
    """

    count: int
    ipc: int
    networks: int
    features: Callable[[int], "Tensor"]
    is_wrong: Callable[[int], "Tensor"]
    random: Callable[[], "Tensor"]
    draws: "torch.Generator"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rounds:
    """Steps of the images in an iteration, and the training of its network between them.

    Attributes:
        outer: steps, at least 1.
        inner: epochs of each training.
        ipc: images per class that these numbers are published for.
    """

    outer: int
    inner: int
    ipc: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """Synthetic images that are stepped towards the real ones, iteration by iteration.

    Attributes:
        matcher: makes what says which way the images of some classes go.
        rounds: of an iteration, from the images per class, unless options say otherwise. Each
            iteration then has a fresh network, which between the rounds is trained on the images
            of all classes. None: there is one round, and networks come out of the model queue.
        augments: whether images are augmented where they are matched, and in training between
            rounds.
        second_order: whether the gradient of the synthetic images is one of a gradient for the
            weights.
    """

    matcher: "MakeMatcher"
    rounds: Callable[[int], Rounds] | None = None
    augments: bool = True
    second_order: bool = False


def _nothing(steps: int, epoch: int) -> tuple[int, ...]:
    return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Selecting:
    """Real images that are chosen, class by class; there are no iterations.

    Attributes:
        choose: rows (ipc,) int64 of the chosen ones, all different.
        looks_at: after which steps a network that is trained on all real images is looked at, from
            the steps that it is trained in all and those of an epoch; empty: at none.
    """

    choose: Callable[[Candidates], "Tensor"]
    looks_at: Callable[[int, int], tuple[int, ...]] = _nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """A method, whatever the data.

    Attributes:
        title: for tables.
        description: for people, in a line.
        how: what makes the images.
        unused: flat options that it does not have; each is what `settings` says, or its default.
        settings: the options that it sets, from those of the recipe for IDM on the same data.
        compared_with: what networks are trained on as well, to compare: start, random.
    """

    title: str
    description: str
    how: Matching | Selecting
    unused: tuple[str, ...] = ()
    settings: Callable[[Options], Options] = lambda recipe: {}
    compared_with: tuple[str, ...] = ("start", "random")

    @property
    def needs_network(self) -> bool:
        """Whether a network has to do with the images."""
        return not isinstance(self.how, Selecting) or self.how.looks_at is not _nothing


def all_but(*used: str) -> tuple[str, ...]:
    """The options of condensing and of the queue that a method does not have.

    Args:
        used: those of them that it has, beside method, ipc, seed and network.
    """
    always = {"recipe", "method", "ipc", "seed", "network", *used}
    fields = {*CondenseConfig.__dataclass_fields__, *QueueConfig.__dataclass_fields__}
    return tuple(name for name in option_names() if name in fields and name not in always)
