"""Checks of values and names against what is allowed; every refusal says what would be right."""

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from idm_ray.errors import UserError

LARGEST = 1e30


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str = "option") -> None:
    """Refuse a name that is not known, naming the nearest one that is.

    Args:
        given: names to check.
        known: names that exist.
        what: kind of thing they name, for the message.

    Raises:
        UserError: for the first unknown name.
    """
    known = tuple(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known)}"
            raise UserError(f"unknown {what} {name!r}; {hint}")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types and the literal words that a hint allows."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return tuple(a for member in typing.get_args(hint) for a in alternatives(member))
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return (hint,)


def describe_type(hint: Any) -> str:
    """What a hint allows, in words."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    allowed = [a for a in alternatives(hint) if a is not types.NoneType]
    return " or ".join(words.get(a, repr(a)) for a in allowed)


def check_types(part: Any) -> None:
    """Refuse values that the annotations of a part's fields do not allow."""
    for name, hint in typing.get_type_hints(type(part)).items():
        value = getattr(part, name)
        if not any(_fits(value, allowed) for allowed in alternatives(hint)):
            raise wrong(name, value, describe_type(hint))
        if isinstance(value, str) and not is_utf8(value):
            raise wrong(name, value, "text in UTF-8")


def _fits(value: object, allowed: Any) -> bool:
    """Whether a value is of a type, or is a literal word."""
    if not isinstance(allowed, type):
        return bool(value == allowed)
    if isinstance(value, bool) or allowed is bool:
        # In Python a bool is an int; nobody means it so.
        return isinstance(value, bool) and allowed is bool
    if allowed is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, allowed)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can express a text: names of files need not be in it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def wrong(name: str, value: object, allowed: str) -> UserError:
    """The error for a value: which field, what is allowed, what was given."""
    return UserError(f"{name} must be {allowed}, got {value!r}")


def at_least(name: str, value: float | str | None, least: int) -> None:
    """Refuse a number below `least`; words such as "auto" and None pass."""
    if isinstance(value, int | float) and value < least:
        raise wrong(name, value, f"at least {least}")


def positive(name: str, value: float) -> None:
    """Refuse a number that is not above 0, or too large for float32 arithmetic."""
    if value <= 0:
        raise wrong(name, value, "above 0")
    if value > LARGEST:
        raise wrong(name, value, f"at most {LARGEST:g}")


def parse_bytes(name: str, text: str) -> int:
    """Read a size such as 500MB, 1.5 GB or 2TB (powers of 1000); a bare number is bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", text, re.IGNORECASE)
    if match is None:
        raise wrong(name, text, "a size such as 500MB or 20GB")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def parse_iterations(name: str, value: int | str) -> tuple[int, ...]:
    """Read iterations, each at least 1, with commas between them."""
    parts = [part.strip() for part in str(value).split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise wrong(name, value, "iterations such as 10,100, at least 1")
    return tuple(map(int, parts))


def parse_epochs(name: str, text: str) -> int:
    """Read epochs: epoch, one, or such as "10 epochs"; every number is written in one way only."""
    match = re.fullmatch(r"epoch|([2-9]|[1-9]\d{1,5}) epochs", text)
    if match is None:
        raise wrong(name, text, "SGD steps such as 500, 'epoch', or epochs such as '10 epochs'")
    return int(match[1] or 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """How often something is done: every so many seconds, or iterations; the other is None."""

    seconds: float | None = None
    iterations: int | None = None


def parse_interval(name: str, value: int | str) -> Interval:
    """Read an interval such as 300s, seconds, or 50, iterations; at least 1 of either."""
    match = re.fullmatch(r"\s*(\d+)(?:(\.\d+)?\s*(s))?\s*", str(value))
    if match is None or float(match[1]) < 1:
        raise wrong(name, value, "seconds such as 300s, or iterations such as 50, at least 1")
    if match[3]:
        return Interval(seconds=float(match[1] + (match[2] or "")))
    return Interval(iterations=int(match[1]))
