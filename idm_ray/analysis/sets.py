"""The condensed sets that are compared: read, checked against each other and the data, named."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from idm_ray.data.dataset import DatasetInfo
from idm_ray.errors import UserError
from idm_ray.formats.opening import read_set
from idm_ray.formats.stored import StoredSet
from idm_ray.results.card import Card
from idm_ray.storage import Location, shown

_FILE_OF_A_RUN: Final = "condensed.parquet"
# So that "features-NAME.svg" is a name that every file system takes.
_LONGEST_NAME: Final = 60


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NamedSet:
    """A condensed set.

    Attributes:
        name: different for each of the sets; letters, digits, dots, dashes and underscores.
        file: where it is, without a password.
        stored: images and card.
    """

    name: str
    file: str
    stored: StoredSet

    @property
    def card(self) -> Card:
        """What the images mean."""
        return self.stored.card


def read_sets(files: Sequence[str | os.PathLike[str]]) -> tuple[NamedSet, ...]:
    """Read sets that are to be compared.

    Args:
        files: each as for `load`.

    Raises:
        CondensedSetError: one of them is damaged or no condensed set.
        UserError: there are none, or they are of different classes or sizes.
    """
    if not files:
        raise UserError("expected a condensed set or several, got none; name their files")
    stored = [read_set(file) for file in files]
    names = _names(files, [one.card for one in stored])
    sets = tuple(
        NamedSet(name=name, file=shown(file), stored=one)
        for name, file, one in zip(names, files, stored, strict=True)
    )
    for one in sets[1:]:
        _check_alike(sets[0], one)
    return sets


def check_fit(sets: Sequence[NamedSet], info: DatasetInfo) -> None:
    """Refuse data that sets were not made of, as far as classes and size tell.

    Raises:
        UserError: they differ.
    """
    first = sets[0]
    if info.class_names != first.card.class_names:
        raise UserError(
            f"expected data of the classes of {first.file}, {_classes(first.card.class_names)}, "
            f"got {_classes(info.class_names)}; name the data that it was made of, with the same "
            "--classes"
        )
    if info.image_shape != first.card.image_shape:
        raise UserError(
            f"expected data of the size of {first.file}, {_shape(first.card.image_shape)}, got "
            f"{_shape(info.image_shape)}; use --size {first.card.image_shape[1]}"
        )


def common_network(sets: Sequence[NamedSet]) -> str:
    """The network that all sets were condensed with.

    Raises:
        UserError: there are several.
    """
    networks = dict.fromkeys(one.card.network for one in sets)
    if len(networks) > 1:
        raise UserError(
            "expected sets that were condensed with one network, whose features are compared, got "
            f"{' and '.join(networks)}; choose one by --network"
        )
    return sets[0].card.network


def _check_alike(first: NamedSet, other: NamedSet) -> None:
    if other.card.class_names != first.card.class_names:
        raise UserError(
            f"expected sets of the same classes, got {_classes(first.card.class_names)} in "
            f"{first.file} and {_classes(other.card.class_names)} in {other.file}; compare sets "
            "of one data set"
        )
    if other.card.image_shape != first.card.image_shape:
        raise UserError(
            f"expected sets of one image size, got {_shape(first.card.image_shape)} in "
            f"{first.file} and {_shape(other.card.image_shape)} in {other.file}; compare sets of "
            "one size"
        )


def _names(files: Sequence[str | os.PathLike[str]], cards: Sequence[Card]) -> list[str]:
    """Say how sets were made where that tells them apart, else where they are, else number them."""
    made = [_plain(f"{card.method}-l{card.partition}-ipc{card.ipc}") for card in cards]
    if len(set(made)) == len(made):
        return made
    places = [_plain(_place(file)) for file in files]
    count = Counter(places)
    return [
        place if count[place] == 1 else f"{place}-{number}"
        for number, place in enumerate(places, 1)
    ]


def _place(file: str | os.PathLike[str]) -> str:
    """The folder of a run, or the name of a file without its end."""
    place = Location.at(file)
    if place.name == _FILE_OF_A_RUN:
        return place.parent.name
    return place.name if place.is_folder() else os.path.splitext(place.name)[0]


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST_NAME]


def _classes(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
