"""The card of a condensed set: what its pixels mean and how to train on them.

Only the card and its JSON form; `condensed` puts it into a file. Needs neither torch nor Arrow.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from idm_ray.checks import is_utf8
from idm_ray.config import PROTOCOLS
from idm_ray.errors import CondensedSetError

FORMAT_VERSION: Final = 1
REMEDY: Final = "copy or download the file again"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """Everything needed to train on a condensed set and to say where it came from.

    Raises:
        CondensedSetError: A field has a wrong type or value, or two fields disagree.
    """

    format_version: int = FORMAT_VERSION
    """Version of the file format."""
    image_shape: tuple[int, int, int]
    """(C, H, W) of one stored image, before expansion."""
    mean: tuple[float, ...]
    """Per channel; stored pixels are (x - mean) / std for x in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, positive."""
    partition: int
    """Tiles per side in one stored image; above 1, images must be expanded before training."""
    usage: str = ""
    """One sentence on how to train on the set; left empty, it is written from other fields."""
    class_names: tuple[str, ...]
    """Names in the order of the labels 0, 1, ...; each occurs once."""
    ipc: int
    """Stored images per class."""
    method: str
    """What made the images, such as "idm"."""
    recipe: str
    """The recipe whose settings were the starting point."""
    network: str
    """The architecture used for condensing."""
    flips: bool
    """Whether a mirrored image still shows its class, so that training may mirror images."""
    seed: int
    """Seed of the run."""
    iterations: int
    """Updates that the images received."""
    protocol: Mapping[str, Any]
    """How `fit` trains: "name", "epochs", "lr_net", "batch_train" and "repeats"."""
    evaluation: Mapping[str, Any] | None = None
    """Results with their protocol; None before evaluation."""
    source: Mapping[str, Any]
    """The data set's "name" and "fingerprint"."""
    versions: Mapping[str, str]
    """Version by package, "idm_ray" among them."""

    def __post_init__(self) -> None:
        for name, (is_valid, expected) in _CHECKS.items():
            if not is_valid(value := getattr(self, name)):
                _refuse(f"{expected} in {name!r}", repr(value)[:80])
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.image_shape[0]:
                _refuse(
                    f"{self.image_shape[0]} numbers in {name!r}, one for each channel",
                    repr(getattr(self, name)),
                )
        if self.partition > 1 and min(self.image_shape[1:]) // self.partition < 2:
            _refuse(f"tiles of 2 pixels or more in {self.image_shape}", f"{self.partition} a side")
        if not self.usage:
            object.__setattr__(self, "usage", _usage(self))

    @property
    def num_images(self) -> int:
        """Images in the file: classes times `ipc`."""
        return len(self.class_names) * self.ipc

    @property
    def num_pixels(self) -> int:
        """Numbers in one image: C * H * W."""
        return math.prod(self.image_shape)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON types, in the order of the class."""
        return {
            field.name: _as_json(getattr(self, field.name)) for field in dataclasses.fields(self)
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Card":
        """Builds a card from what `to_json` returned.

        Raises:
            CondensedSetError: `fields` are of a newer format, incomplete, unknown or wrong.
        """
        _check_version(fields)
        known = {field.name for field in dataclasses.fields(cls)}
        if missing := sorted(known - set(fields)):
            _refuse("a complete card", f"one without {', '.join(missing)}")
        if unknown := sorted(set(fields) - known):
            _refuse(f"the fields of format {FORMAT_VERSION}", f"also {', '.join(unknown)[:80]}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


def seal(card: Card, columns_sha256: str) -> bytes:
    """Returns the JSON that is stored in the file: the card and the two hashes.

    Args:
        card: The card.
        columns_sha256: Hash of the file's columns, hexadecimal.
    """
    fields = card.to_json()
    hashes = {"sha256_columns": columns_sha256, "sha256_card": _sha256(fields)}
    return json.dumps(fields | hashes, allow_nan=False).encode()


def unseal(sealed: bytes) -> tuple[Card, str]:
    """Reads what `seal` returned and checks the card against its hash.

    Returns:
        The card and the hash that the file's columns must have.

    Raises:
        CondensedSetError: Not JSON, a newer format, or a card that does not match its hash.
    """
    try:
        fields = json.loads(sealed)
    except (ValueError, RecursionError) as error:
        raise CondensedSetError(f"expected a card in JSON, found {error}; {REMEDY}") from error
    if not isinstance(fields, dict):
        _refuse("a JSON object as the card", type(fields).__name__, REMEDY)
    # A newer format may define its hashes anew, so this comes before they are looked at.
    _check_version(fields)
    columns_sha256, card_sha256 = fields.pop("sha256_columns", None), fields.pop("sha256_card", "")
    if not isinstance(columns_sha256, str) or card_sha256 != _sha256(fields):
        _refuse("a card that matches its SHA-256", "one that was changed or damaged", REMEDY)
    return Card.from_json(fields), columns_sha256


def _sha256(fields: Mapping[str, Any]) -> str:
    """Hash of the canonical JSON: keys sorted, no spaces, ASCII."""
    try:
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise CondensedSetError(f"expected a card that JSON can express, found {error}") from error
    return hashlib.sha256(canonical.encode()).hexdigest()


def _usage(card: Card) -> str:
    """Says in one sentence how to train on the set."""
    height, width = card.image_shape[1:]
    l = card.partition  # noqa: E741 - the paper's letter
    expansion = (
        f"cut each image into {l} x {l} tiles of {height // l} x {width // l} pixels and enlarge "
        f"each tile to {height} x {width} (bilinear, corners not aligned) with its image's label, "
        "as idm_ray.load(file).dataset() does"
        if l > 1
        else "use the images as they are"
    )
    return (
        f"Pixels are (x - mean) / std with x in [0, 1], mean {list(card.mean)} and std "
        f"{list(card.std)} per channel; to train, {expansion}, and "
        f"{'mirror them freely' if card.flips else 'never mirror them'}."
    )


def _as_json(value: Any) -> Any:
    """Turns a field's tuple or mapping into the JSON type for it."""
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _check_version(fields: Mapping[str, Any]) -> None:
    """Raises CondensedSetError if `fields` are of a format that this code does not know."""
    found = fields.get("format_version")
    if not isinstance(found, int) or found < 1:
        _refuse("the format's version in the card", repr(found)[:80])
    if found > FORMAT_VERSION:
        versions = fields.get("versions")
        wanted = versions.get("idm_ray") if isinstance(versions, Mapping) else None
        raise CondensedSetError(
            f"expected a condensed set of format {FORMAT_VERSION}, found format {found}; "
            f"install idm_ray {f'{wanted} or newer' if wanted else 'in a newer version'}"
        )


def _refuse(expected: str, found: str, remedy: str = "") -> NoReturn:
    """Raises the one-line error of this module."""
    raise CondensedSetError(f"expected {expected}, found {found}" + (remedy and f"; {remedy}"))


def _is_integer(value: Any) -> bool:
    return type(value) is int  # to isinstance, True and False are integers too


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _is_real(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_utf8(value)


def _is_tuple_of(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(map(is_valid, value))


def _has(**checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A mapping with at least these keys, whose values pass their checks."""
    return lambda value: (
        isinstance(value, Mapping)
        and all(name in value and is_valid(value[name]) for name, is_valid in checks.items())
    )


_CHECKS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "format_version": (lambda value: value == FORMAT_VERSION, f"the version {FORMAT_VERSION}"),
    "image_shape": (
        lambda value: _is_tuple_of(_is_count)(value) and len(value) == 3,
        "three positive integers (C, H, W)",
    ),
    "mean": (_is_tuple_of(_is_real), "finite numbers"),
    "std": (_is_tuple_of(lambda value: _is_real(value) and value > 0), "positive numbers"),
    "partition": (_is_count, "a positive integer"),
    "usage": (_is_text, "a text"),
    "class_names": (
        lambda value: _is_tuple_of(_is_text)(value) and len(set(value)) == len(value) > 0,
        "different names, at least one,",
    ),
    "ipc": (_is_count, "a positive integer"),
    "method": (_is_text, "a text"),
    "recipe": (_is_text, "a text"),
    "network": (_is_text, "a text"),
    "flips": (lambda value: isinstance(value, bool), "true or false"),
    "seed": (_is_integer, "an integer"),
    "iterations": (lambda value: _is_integer(value) and value >= 0, "an integer from 0"),
    "protocol": (
        _has(
            name=lambda value: value in PROTOCOLS,
            epochs=_is_count,
            lr_net=lambda value: _is_real(value) and value > 0,
            batch_train=_is_count,
            repeats=_is_integer,
        ),
        "name, epochs, lr_net, batch_train and repeats, each with a usable value,",
    ),
    "evaluation": (lambda value: value is None or isinstance(value, Mapping), "results or none"),
    "source": (_has(name=_is_text, fingerprint=_is_text), "name and fingerprint"),
    "versions": (
        lambda value: _has(idm_ray=_is_text)(value) and all(map(_is_text, value.values())),
        "versions as texts, idm_ray's among them,",
    ),
}
