"""Some classes of a source, labelled in the order in which they are chosen."""

import csv
import difflib
import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idm_ray.data.listing import EncodedImage, Listing, Source, some_names
from idm_ray.errors import DataError


class ClassSubset:
    """A source cut down to some of its classes.

    Which images are test images is the whole source's business, so a class has the same ones
    whatever classes are chosen beside it.
    """

    def __init__(self, source: Source, class_names: Sequence[str]) -> None:
        self.name = source.name
        self.known_as = source.known_as
        self.is_random_access = source.is_random_access
        self._source = source
        self._class_names = tuple(class_names)

    def identity(self) -> Iterator[str]:
        """Yield the source's identity and the chosen classes."""
        yield from self._source.identity()
        yield f"{len(self._class_names)} of its classes"
        yield from self._class_names

    def listing(self) -> Listing:
        """List the images of the chosen classes; label c is the c-th of them.

        Raises:
            DataError: The source lacks one of the classes, or is not as it should be.
        """
        return self._chosen[0]

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows` of this listing."""
        return self._source.read(self._chosen[1][rows])

    @cached_property
    def _chosen(self) -> tuple[Listing, NDArray[np.int64]]:
        """The listing, and the rows of it in the source's own listing."""
        whole = self._source.listing()
        check_known(self._class_names, whole.class_names, self.name)
        labels = np.full(len(whole.class_names), -1, dtype=np.int64)
        for label, name in enumerate(self._class_names):
            labels[whole.class_names.index(name)] = label
        rows = np.flatnonzero(labels[whole.labels] >= 0)
        kept = replace(
            whole,
            class_names=self._class_names,
            labels=labels[whole.labels[rows]],
            is_test=whole.is_test[rows],
        )
        return kept, rows


def parse_classes(written: str) -> tuple[str, ...]:
    """Read the class names that `--classes` gives.

    Args:
        written: Names with commas between them, a name with a comma in double quotes; or the path
            of a text file with one name per line, where `#` at the beginning of a line or after a
            space starts a comment.

    Returns:
        The names in the order given.

    Raises:
        DataError: There is no name, one twice, or the file is no text.
    """
    path = os.path.expanduser(written)
    if os.path.isfile(path):
        lines = _read_text(Path(path)).splitlines()
        names = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    else:
        one_line = ",".join(written.splitlines())  # as YAML may have it
        names = [name.strip() for name in next(csv.reader([one_line], skipinitialspace=True), [])]
    names = [name for name in names if name]
    if not names:
        raise DataError(
            f"expected class names with --classes, found none in {written!r}: give some"
        )
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise DataError(
            f"expected every class once with --classes, found {some_names(repeated)} more than "
            "once: give each a single time"
        )
    return tuple(names)


def write_classes(class_names: Sequence[str]) -> str:
    """Write names so that `parse_classes` reads them again, wherever it runs."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(class_names)
    return text.getvalue()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected a text file with one class name per line, found {path} in another encoding "
            "than UTF-8, or no text at all: write it as UTF-8"
        ) from error


def check_known(chosen: Sequence[str], known: Sequence[str], source: str) -> None:
    """Refuse chosen classes that a source lacks.

    Raises:
        DataError: There are some; the nearest known one is named.
    """
    present = set(known)
    unknown = [name for name in chosen if name not in present]
    if not unknown:
        return
    nearest = difflib.get_close_matches(unknown[0], known, n=1)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else f"it has {some_names(known)}"
    raise DataError(
        f"expected with --classes a file or classes of {source}, found {some_names(unknown)}: "
        f"{remedy}"
    )
