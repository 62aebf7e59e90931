"""Images in parquet files, laid out as on the Hugging Face Hub: an image column, a label column."""

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from idm_ray.data.listing import EncodedImage, Listing
from idm_ray.data.splits import hold_out
from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "fine_label", "labels", "class", "target")
_TRAIN_WORDS = ("train",)
_TEST_WORDS = (("test",), ("validation", "valid", "val"))
"""A test split is preferred to a validation split."""
_BATCH_ROWS = 64
_MOST_CLASSES = 1_000_000
"""Of labels without names, which all get one; a larger number is no class but an identifier."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where images and labels are in a file."""

    image: str
    """A column of bytes: "img.bytes" inside a struct, or "img" itself."""
    label: str
    class_names: tuple[str, ...] | None
    """From the file's own metadata, if it says."""


class ParquetSource:
    """One parquet file, or all those of a folder."""

    known_as = None
    is_random_access = False
    """The images of a class lie in all row groups, and a row group is read as a whole."""

    def __init__(
        self,
        path: Path,
        files: Sequence[FileEntry],
        test_fraction: float,
        label_column: str | None = None,
    ) -> None:
        """Sort the files by split.

        Args:
            path: The folder, or the only file; its name says nothing about a split then.
            files: The parquet files below the folder; not used for a file.
            test_fraction: Share of each class to hold out where no file is of a test split.
            label_column: Its name; None to find it.

        Raises:
            DataError: There are training files only, or test files only.
        """
        if path.is_file():
            status = path.stat()
            self.name, self._root = path.stem, path.parent
            self._train = [FileEntry(path.name, status.st_size, status.st_mtime_ns)]
            self._test: list[FileEntry] = []
        else:
            self.name, self._root = path.name, path
            self._train, self._test = _by_split(path, files)
        self._where = path
        self._test_fraction = test_fraction
        self._label_column = label_column

    def identity(self) -> Iterator[str]:
        """Yield the folder and, per file, its name, size, time and split."""
        yield f"parquet {self._root.resolve()}"
        if not self._test:
            yield f"test_fraction {self._test_fraction!r}"
        if self._label_column is not None:
            yield f"label_column {self._label_column}"
        for kind, files in (("train", self._train), ("test", self._test)):
            yield from (f"{kind} {entry.identity()}" for entry in files)

    def listing(self) -> Listing:
        """Read the label columns and the class names."""
        files = [*self._train, *self._test]
        columns = [self._columns(entry) for entry in files]
        labels = [
            self._labels(entry, column.label) for entry, column in zip(files, columns, strict=True)
        ]
        names, numbers = _number_labels(labels, columns[0].class_names, self._where)
        if self._test:
            in_train = sum(len(part) for part in labels[: len(self._train)])
            return Listing(names, numbers, np.arange(len(numbers)) >= in_train)
        return Listing(names, numbers, hold_out(numbers, self._test_fraction))

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`; row groups without any of them are not read."""
        first = 0
        for entry in (*self._train, *self._test):
            column = self._columns(entry).image
            with _opened(self._root / entry.path) as file:
                for group in range(file.num_row_groups):
                    stop = first + file.metadata.row_group(group).num_rows
                    wanted = _between(rows, first, stop)
                    if len(wanted):
                        yield from _read_group(file, group, column, wanted - first, entry.path)
                    first = stop

    def _columns(self, entry: FileEntry) -> _Columns:
        path = self._root / entry.path
        with _opened(path) as file:
            return _find_columns(file.schema_arrow, self._label_column, path)

    def _labels(self, entry: FileEntry, column: str) -> pa.ChunkedArray:
        path = self._root / entry.path
        with _opened(path) as file:
            labels = file.read(columns=[column]).column(0)
        if labels.null_count:
            raise DataError(
                f"expected a label in every row of {path}, found {labels.null_count} rows without "
                f"in column {column!r}: remove them"
            )
        return labels


def _by_split(root: Path, files: Sequence[FileEntry]) -> tuple[list[FileEntry], list[FileEntry]]:
    """Sort files into training and test files by their names; no test files if none says so."""
    words = {entry.path: set(re.split(r"[^a-z]+", entry.path.lower())) for entry in files}

    def named(choice: Sequence[str]) -> list[FileEntry]:
        return [entry for entry in files if words[entry.path].intersection(choice)]

    train = named(_TRAIN_WORDS)
    tests = [named(choice) for choice in _TEST_WORDS]
    test = next((found for found in tests if found), [])
    if not train and not test:
        return list(files), []
    for found, wanted in ((train, "train-*.parquet"), (test, "test-*.parquet")):
        if not found:
            raise DataError(
                f"expected {wanted} among the parquet files of {root}, found none: add it, or give "
                "one parquet file as the source, of which some images are then held out"
            )
    return train, test


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"expected a parquet file, found {path} unreadable ({reason}): copy it again"
        ) from error


def _find_columns(schema: pa.Schema, label_column: str | None, path: Path) -> _Columns:
    images = {field.name: _bytes_column(field) for field in schema if _bytes_column(field)}
    image = _pick(
        list(images),
        _IMAGE_NAMES,
        f"image column (bytes) in {path}",
        "call one of them 'image'" if images else "add one, called 'image'",
    )
    if label_column is None:
        label = _find_label(schema, path)
    else:
        label = _check_label(schema, label_column, path)
    return _Columns(str(images[image]), label, _class_names(schema, label))


def _find_label(schema: pa.Schema, path: Path) -> str:
    names = [field.name for field in schema if _is_label(field.type)]
    # Of columns of another type, one may be meant: then the type is what has to be mended.
    others = [name for name in _LABEL_NAMES if name in schema.names]
    if not names and others:
        return _check_label(schema, others[0], path)
    remedy = "name one with --label-column" if names else "add one, called 'label'"
    what = f"label column (integers or strings) in {path}"
    return _pick(names, _LABEL_NAMES, what, remedy)


def _check_label(schema: pa.Schema, name: str, path: Path) -> str:
    """Refuse a column that is not there, or holds what are no labels."""
    labels = [field.name for field in schema if _is_label(field.type)]
    if name not in schema.names:
        near = difflib.get_close_matches(name, labels, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else "name another with --label-column"
        raise DataError(
            f"expected the label column {name!r} in {path}, found {_listed(labels)}: {remedy}"
        )
    if name not in labels:
        others = f", or name another ({', '.join(labels)}) with --label-column" if labels else ""
        raise DataError(
            f"expected integers or strings in the label column {name!r} of {path}, found "
            f"{schema.field(name).type}: convert it{others}"
        )
    return name


def _bytes_column(field: pa.Field) -> str | None:
    if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
        return str(field.name)
    if pa.types.is_struct(field.type):
        inner = [child for child in field.type if child.name == "bytes"]
        return f"{field.name}.bytes" if inner and _bytes_column(inner[0]) else None
    return None


def _is_label(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_integer(values) or _is_text(values))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _pick(names: list[str], preferred: tuple[str, ...], what: str, remedy: str) -> str:
    """Choose the only column, or else the one with the best-known name."""
    if len(names) == 1:
        return names[0]
    for name in preferred:
        if name in names:
            return name
    raise DataError(f"expected one {what}, found {_listed(names)}: {remedy}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Return the names of a Hugging Face ClassLabel, None where there is none."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in metadata["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _number_labels(
    parts: list[pa.ChunkedArray], class_names: tuple[str, ...] | None, where: Path
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Turn the labels of all files into numbers 0..C-1 and the names of the C classes."""
    plain = [_without_dictionary(part) for part in parts]
    if len({_is_text(part.type) for part in plain}) > 1:
        raise DataError(
            f"expected labels of one type in {where}, found strings in some files and integers in "
            "others: write them alike"
        )
    labels = np.concatenate([part.to_numpy() for part in plain])
    if not len(labels):
        raise DataError(f"expected rows in {where}, found none: add some, or another file")
    if _is_text(plain[0].type):
        names, numbers = np.unique(labels.astype(str), return_inverse=True)
        return tuple(names.tolist()), numbers.astype(np.int64)
    return _check_range(labels, class_names, where), labels.astype(np.int64)


def _without_dictionary(labels: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(labels.type):
        return labels.cast(labels.type.value_type)
    return labels


def _check_range(
    labels: NDArray[np.integer], class_names: tuple[str, ...] | None, where: Path
) -> tuple[str, ...]:
    """Refuse labels that are not 0..C-1; the names of the C classes."""
    lowest, highest = int(labels.min()), int(labels.max())
    if class_names is None and highest >= _MOST_CLASSES:
        raise DataError(
            f"expected labels 0..C-1 in {where}, found {len(np.unique(labels))} different ones "
            f"up to {highest}: number the classes from 0, or name them by strings"
        )
    names = class_names or tuple(str(label) for label in range(highest + 1))
    if lowest < 0 or highest >= len(names):
        raise DataError(
            f"expected labels 0..{max(len(names), 1) - 1} in {where}, found {lowest}..{highest}: "
            "correct them, or move the files of an unlabelled split elsewhere"
        )
    return names


def _between(rows: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
    """Return those of the ascending `rows` that lie in start..stop-1."""
    low, high = np.searchsorted(rows, (start, stop))
    return rows[low:high]


def _read_group(
    file: pq.ParquetFile, group: int, column: str, rows: NDArray[np.int64], name: str
) -> Iterator[EncodedImage]:
    """Yield the images at `rows` of a row group, counted from its beginning."""
    first = 0
    for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[column]):
        cells = batch.column(0)
        if pa.types.is_struct(cells.type):
            cells = pc.struct_field(cells, "bytes")
        for row in _between(rows, first, first + len(cells)):
            cell = cells[int(row) - first].as_py()
            where = f"{name}, row group {group}, row {row}"
            yield EncodedImage(where, partial(_content, cell))
        first += len(cells)


def _content(cell: bytes | None) -> bytes:
    if cell is None:
        raise ValueError("no image in this row")
    return cell
