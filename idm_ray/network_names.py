"""Names of ConvNets: a depth, and what differs from the network of the paper.

convnet-3 is that network; convnet-3-w64-batch-max-leakyrelu has 64 filters in each block, batch
norm, maximum pooling and leaky ReLUs. Networks that are equal have one name.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from idm_ray.checks import refuse_unknown
from idm_ray.errors import UserError

Norm = Literal["instance", "batch", "layer", "group", "nonorm"]
Pooling = Literal["avg", "max", "nopool"]
Activation = Literal["relu", "leakyrelu", "sigmoid"]

GROUPS: Final = 4
"""Of channels, in a group norm."""

CHOICES: Final = {
    "norm": get_args(Norm),
    "pooling": get_args(Pooling),
    "activation": get_args(Activation),
}
"""Words of a name by what they say, that of the paper first."""

_NAME: Final = re.compile(r"convnet-([1-9]\d?)((?:-[^-]+)*)")
_WIDTH: Final = re.compile(r"w([1-9]\d{0,3})")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvNetDesign:
    """What a ConvNet is made of; the defaults are the paper's (Sec. 5.1).

    Attributes:
        depth: blocks of convolution, norm, activation and pooling.
        width: filters of each.
        norm: over the pixels of each channel (instance), of each channel in the whole batch
            (batch), of all channels (layer) or of a quarter of them (group); nonorm: none.
        pooling: of 2x2 pixels; nopool: none.
        activation: after the norm.
    """

    depth: int
    width: int = 128
    norm: Norm = "instance"
    pooling: Pooling = "avg"
    activation: Activation = "relu"

    @property
    def is_plain(self) -> bool:
        """Whether it is the paper's, but for the depth."""
        return self == ConvNetDesign(depth=self.depth)

    @property
    def name(self) -> str:
        """Its one name."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = ConvNetDesign(depth=self.depth)
        words = [
            f"w{value}" if kind == "width" else value
            for kind, value in own.items()
            if value != getattr(plain, kind)
        ]
        return "-".join([f"convnet-{self.depth}", *words])


def parse_convnet(name: str) -> ConvNetDesign | None:
    """Read the name of a ConvNet; its parts may come in any order, the paper's among them.

    Returns:
        None if it is not called convnet-DEPTH at all.

    Raises:
        UserError: a part that is not known (the nearest known one is named), two of a kind, or a
            width that cannot be cut into groups.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    parts: dict[str, Any] = {}
    for part in match[2].split("-")[1:]:
        kind, value = _read(part, name)
        if kind in parts:
            raise UserError(f"expected one {kind} in network {name}, got two; leave one out")
        parts[kind] = value
    design = ConvNetDesign(depth=int(match[1]), **parts)
    if design.norm == "group" and design.width % GROUPS:
        raise UserError(
            f"expected a width that {GROUPS} groups can share in network {name}, got "
            f"{design.width}; use a multiple of {GROUPS}"
        )
    return design


def one_name(name: str) -> str:
    """The name that equal networks share; names of others than ConvNets are left as they are.

    Raises:
        UserError: as `parse_convnet`.
    """
    design = parse_convnet(name)
    return name if design is None else design.name


def _read(part: str, name: str) -> tuple[str, int | str]:
    """What a part of a name says, and of what."""
    width = _WIDTH.fullmatch(part)
    if width is not None:
        return "width", int(width[1])
    kinds = {word: kind for kind, words in CHOICES.items() for word in words}
    refuse_unknown([part], ("w64", *kinds), what=f"part of network {name}:")
    return kinds[part], part
