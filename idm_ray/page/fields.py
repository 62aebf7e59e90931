"""JSON written by other processes, maybe of other versions, whose values are checked when read."""

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from idm_ray.errors import UserError
from idm_ray.storage import Location

_REMEDY = "restore the file as it was written, or make it again"


class Fields:
    """A JSON object; every value is asked for with the kind that it should have.

    Args:
        content: of the object.
        where: it is, for messages.

    Raises:
        UserError: it is no object.
    """

    def __init__(self, content: Any, where: str) -> None:
        self._where = where
        if not isinstance(content, dict):
            self._refuse("an object", "it", content)
        self._content: dict[str, Any] = content

    @classmethod
    def read(cls, file: Location) -> "Fields":
        """Read a file.

        Raises:
            UserError: it is missing, or holds something else.
            StorageError: a remote store went on failing.
        """
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"expected JSON in {file}, found: {error}; {_REMEDY}") from error
        return cls(content, str(file))

    def has(self, name: str) -> bool:
        """Whether there is a value, and it is not null."""
        return self._content.get(name) is not None

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._content.get(name)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            self._refuse("a finite number", name, value)
        return float(value)

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        values = self._content.get(name)
        if not isinstance(values, list):
            self._refuse("a list of numbers", name, values)
        return [Fields({name: value}, self._where).number(name) for value in values]

    def count(self, name: str) -> int:
        """A whole number from 0."""
        value = self._content.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self._refuse("a whole number from 0", name, value)
        return value

    def text(self, name: str) -> str:
        """A text."""
        value = self._content.get(name)
        if not isinstance(value, str):
            self._refuse("a text", name, value)
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        values = self._content.get(name)
        if not isinstance(values, list):
            self._refuse("a list of texts", name, values)
        return [Fields({name: value}, self._where).text(name) for value in values]

    def part(self, name: str) -> "Fields":
        """An object in this one."""
        return Fields(self._content.get(name), f"{name!r} of {self._where}")

    def parts(self, name: str) -> list["Fields"]:
        """Objects in this one, in a list."""
        values = self._content.get(name)
        if not isinstance(values, list):
            self._refuse("a list", name, values)
        return [Fields(v, f"{name!r}[{i}] of {self._where}") for i, v in enumerate(values)]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and values as they are, unchecked."""
        yield from self._content.items()

    def _refuse(self, expected: str, name: str, found: object) -> NoReturn:
        raise UserError(
            f"expected {expected} as {name} in {self._where}, found {found!r:.60}; {_REMEDY}"
        )
