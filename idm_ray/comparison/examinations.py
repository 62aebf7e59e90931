"""What is known of networks that were trained for a comparison: each is trained once, ever."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from idm_ray.errors import UserError
from idm_ray.storage import Location

FILE: Final = "examinations.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What networks are trained on and how; they differ by their `repeat` alone.

    Attributes:
        subject: fingerprint of the images.
        network: architecture.
        protocol: name of the protocol.
        epochs: of the training.
        seed: that the networks are drawn by.
        settings: fingerprint of all else that decides the accuracies.
    """

    subject: str
    network: str
    protocol: str
    epochs: int
    seed: int
    settings: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Examined:
    """A network that was trained and tested.

    Attributes:
        accuracy: on the test images, a fraction.
        seconds: its share of the time that it took with those beside it.
    """

    accuracy: float
    seconds: float


class Examinations:
    """All of them, in a file of the comparison's folder that is written anew for each.

    Args:
        folder: of the comparison.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, folder: Location) -> None:
        self._place = folder / FILE
        self._known: dict[Kind, dict[int, Examined]] = {}
        if not self._place.exists():
            return
        try:
            for entry in json.loads(self._place.read_bytes())["networks"]:
                self._take(entry)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"expected the trained networks of a comparison in {self._place}, found something "
                "else; restore the file, or remove it to have them trained again"
            ) from error

    def known(self, kind: Kind) -> dict[int, Examined]:
        """What is known of a kind, by repeat."""
        return dict(self._known.get(kind, {}))

    def missing(self, kind: Kind, repeats: Iterable[int]) -> list[int]:
        """Those of some repeats that are still to be trained."""
        known = self._known.get(kind, {})
        return [repeat for repeat in repeats if repeat not in known]

    def add(self, kind: Kind, repeat: int, examined: Examined) -> None:
        """Take a result and write it down."""
        self._known.setdefault(kind, {})[repeat] = examined
        with self._place.atomic_write() as file:
            file.write(json.dumps({"networks": list(self._entries())}, indent=1).encode())

    def _entries(self) -> Iterable[dict[str, Any]]:
        for kind, networks in self._known.items():
            for repeat, examined in networks.items():
                found = dataclasses.asdict(examined)
                yield {**dataclasses.asdict(kind), "repeat": repeat, **found}

    def _take(self, entry: dict[str, Any]) -> None:
        kind = Kind(**{field.name: entry[field.name] for field in dataclasses.fields(Kind)})
        found = Examined(accuracy=float(entry["accuracy"]), seconds=float(entry["seconds"]))
        if not 0 <= found.accuracy <= 1:
            raise ValueError("an accuracy is a fraction")
        self._known.setdefault(kind, {})[int(entry["repeat"])] = found
