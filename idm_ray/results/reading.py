"""Opening a condensed set that may be damaged, or come from a stranger.

The footer is verified against its seal before Arrow sees it, since a damaged one can end the
process inside Arrow; sizes are compared with the file's before anything of that size is read;
pages have checksums, and the hash of the columns decides. Whatever Arrow raises on a damaged file
leaves this module as a `CondensedSetError` of one line.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from idm_ray.errors import CondensedSetError, DataError
from idm_ray.results.card import REMEDY, Card, unseal
from idm_ray.results.columns import ColumnHash, make_schema
from idm_ray.results.footer import check_footer_seal
from idm_ray.results.unreadable import one_line_errors
from idm_ray.storage import Location

CARD_KEY: Final = "idm_ray"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSet:
    """A condensed set whose footer is verified and whose columns are verified while read."""

    path: str
    """Where it lies, for messages."""
    file: pq.ParquetFile
    """The open file."""
    card: Card
    """Its verified card."""
    columns_sha256: str
    """The hash that the columns must have."""

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows in order, about a row group at a time.

        Raises:
            CondensedSetError: The rows are damaged. Only the end of the iteration proves the
                rows before it, so nothing may be made of them until then.
        """
        column_hash = ColumnHash()
        labels = []
        for index in range(self.file.num_row_groups):
            with one_line_errors(self.path):
                batches = self.file.read_row_group(index, use_threads=False).to_batches()
                for rows in batches:
                    column_hash.update(rows, self.card)
                    labels.append(rows["label"].to_numpy())
            yield from batches
        expected = np.repeat(np.arange(len(self.card.class_names)), self.card.ipc)
        with one_line_errors(self.path):
            if column_hash.hexdigest() != self.columns_sha256:
                raise CondensedSetError(
                    f"expected columns that match their SHA-256, found others; {REMEDY}"
                )
            if not np.array_equal(np.concatenate(labels), expected):
                raise CondensedSetError(
                    f"expected {self.card.ipc} rows for each class in order, found other labels; "
                    "write the set again with idm_ray"
                )


@contextlib.contextmanager
def open_set(path: str | os.PathLike[str]) -> Iterator[OpenedSet]:
    """Opens a condensed set and verifies its footer.

    Args:
        path: A path or a URI.

    Raises:
        CondensedSetError: Not a condensed set, damaged, or of a newer format.
        StorageError: A remote store went on failing.
    """
    location = Location.at(path)
    name = str(location)
    with contextlib.ExitStack() as stack:
        with one_line_errors(name):
            num_bytes = _size_of(location)
            raw = stack.enter_context(location.open_stream())
            check_footer_seal(raw)
            # Arrow's threads could still hold Python's buffers when all is read; if Python ends
            # just then, they abort the process. So none of them is used here.
            parquet = pq.ParquetFile(raw, page_checksum_verification=True, pre_buffer=False)
            file = stack.enter_context(parquet)
            card, columns_sha256 = _sealed_card(file)
            _check_counts(file, card, num_bytes)
        yield OpenedSet(path=name, file=file, card=card, columns_sha256=columns_sha256)


def _size_of(location: Location) -> int:
    """Returns the size of a file in bytes; for a folder, says what to name instead."""
    try:
        return location.size()
    except DataError as error:
        if location.is_folder():
            raise CondensedSetError(
                "expected a file, found a folder; name the condensed.parquet in it"
            ) from error
        raise


def _sealed_card(file: pq.ParquetFile) -> tuple[Card, str]:
    """Returns the verified card in the footer, and the hash that the columns must have."""
    sealed = (file.metadata.metadata or {}).get(CARD_KEY.encode())
    if sealed is None:
        raise CondensedSetError(
            "expected a condensed set, found a Parquet file without a card; "
            "write one with idm-ray condense"
        )
    return unseal(sealed)


def _check_counts(file: pq.ParquetFile, card: Card, num_bytes: int) -> None:
    """Raises CondensedSetError unless schema and counts agree with the card and the file's size."""
    if not file.schema_arrow.equals(make_schema(card)):
        raise CondensedSetError(f"expected the columns of a condensed set, found others; {REMEDY}")
    footer = file.metadata
    if footer.num_rows != card.num_images:
        raise CondensedSetError(
            f"expected {card.num_images} rows as in the card, found {footer.num_rows}; {REMEDY}"
        )
    if card.num_images * card.num_pixels * 4 > num_bytes:
        raise CondensedSetError(
            f"expected {card.num_images} images of {card.num_pixels} numbers, found a file of "
            f"only {num_bytes} bytes; {REMEDY}"
        )
