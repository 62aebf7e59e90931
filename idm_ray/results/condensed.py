"""The file of a condensed set: one Parquet file that says how to use itself.

One row per synthetic image, sorted by class: `image` (PNG `bytes` and `path`), `label`,
`class_name`, and `pixels`, the exact tensor: float32, CHW order, normalised, unexpanded. The
footer holds the card with the SHA-256 of itself and of the columns. Writing needs numpy only.
"""

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from idm_ray.errors import CondensedSetError
from idm_ray.local_disk import atomic_write
from idm_ray.results.card import Card, seal
from idm_ray.results.columns import ColumnHash, make_rows, make_schema, pixels_of, rows_per_group
from idm_ray.results.footer import seal_footer
from idm_ray.results.reading import CARD_KEY, open_set


def write_condensed(
    path: str | os.PathLike[str],
    *,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    card: Card,
) -> None:
    """Writes a condensed set, atomically; equal input gives equal bytes.

    Args:
        path: The file to create or replace.
        images: (N, C, H, W), normalised, unexpanded, finite; stored bit for bit.
        labels: (N,), `card.ipc` of each class, in any order; the file is sorted by class.
        card: Describes `images`.

    Raises:
        CondensedSetError: `images`, `labels` and `card` do not fit together, a pixel is not
            finite, or there are neither 1 nor 3 channels.
        OSError: The file cannot be written.
    """
    _check_arrays(images, labels, card)
    order = np.argsort(labels, kind="stable")
    step = rows_per_group(card)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            ranks = [index % card.ipc for index in range(start, start + len(rows))]
            yield make_rows(_finite(images[rows]), labels[rows], ranks, card)

    with atomic_write(path) as file:
        _write(file, batches(), card)


def read_card(path: str | os.PathLike[str]) -> Card:
    """Returns the card of a condensed set, checked against its hash; reads no image.

    Args:
        path: A path or a URI.

    Raises:
        CondensedSetError: Not a condensed set, damaged, or of a newer format.
        StorageError: A remote store went on failing.
    """
    with open_set(path) as condensed:
        return condensed.card


def replace_card(path: str | os.PathLike[str], card: Card) -> None:
    """Writes the file anew with the same columns and another card, atomically.

    Args:
        path: An existing condensed set.
        card: Equal to the present one in all that describes the images.

    Raises:
        CondensedSetError: The file is damaged, or `card` describes other images.
        OSError: The file cannot be written.
    """
    with open_set(path) as condensed:
        for name in ("image_shape", "mean", "std", "partition", "class_names", "ipc"):
            if getattr(condensed.card, name) != getattr(card, name):
                raise CondensedSetError(
                    f"{path}: expected a card for the same images, found another {name!r}; "
                    "write a new condensed set instead"
                )
        with atomic_write(path) as target:
            _write(target, condensed.rows(), card)


def read_arrays(
    path: str | os.PathLike[str],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], Card]:
    """Reads and verifies a condensed set, without torch.

    Args:
        path: A path or a URI.

    Returns:
        Images (N, C, H, W), normalised and unexpanded, labels (N,) in ascending order, the card.

    Raises:
        CondensedSetError: Not a condensed set, damaged, or of a newer format.
        StorageError: A remote store went on failing.
    """
    with open_set(path) as condensed:
        card = condensed.card
        images = np.empty((card.num_images, *card.image_shape), np.float32)
        labels = np.empty(card.num_images, np.int64)
        start = 0
        for rows in condensed.rows():
            images[start : start + len(rows)] = pixels_of(rows, card)
            labels[start : start + len(rows)] = rows["label"].to_numpy()
            start += len(rows)
        return images, labels, card


def _check_arrays(
    images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], card: Card
) -> None:
    """Raises CondensedSetError unless the arrays are what the card says."""
    shape = (card.num_images, *card.image_shape)
    expected = f"images float32 {shape} and labels int64 {shape[:1]}"
    found = f"images {images.dtype} {images.shape} and labels {labels.dtype} {labels.shape}"
    if found != expected:
        raise CondensedSetError(
            f"expected {expected} as in the card, found {found}; correct the card or the arrays"
        )
    if not np.array_equal(np.sort(labels), np.repeat(np.arange(len(card.class_names)), card.ipc)):
        raise CondensedSetError(
            f"expected {card.ipc} images for each label below {len(card.class_names)}, found "
            f"labels {labels.min()} to {labels.max()} in other numbers; correct the labels"
        )


def _finite(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns `images`; raises CondensedSetError if one holds NaN or an infinity."""
    if not np.isfinite(images).all():
        raise CondensedSetError(
            "expected finite pixels, found NaN or infinity; lower lr_img or resume from an "
            "earlier checkpoint"
        )
    return images


def _write(target: BinaryIO, batches: Iterable[pa.RecordBatch], card: Card) -> None:
    """Writes a row group for each batch, then the sealed card."""
    column_hash = ColumnHash()
    with pq.ParquetWriter(
        target,
        make_schema(card),
        version="2.6",
        # PNG is compressed already. Pixels would shrink by 8% (18% as separate bytes; zstd,
        # noisy CIFAR-10); stored as they are, the file's size bounds what reading them takes.
        compression="none",
        use_dictionary=False,
        write_statistics=["label"],
        write_page_checksum=True,
    ) as writer:
        for rows in batches:
            column_hash.update(rows, card)
            writer.write_batch(rows, row_group_size=len(rows))
        # Known only now; in the schema it would need all rows in memory, or each PNG twice.
        writer.add_key_value_metadata({CARD_KEY: seal(card, column_hash.hexdigest())})
    seal_footer(target)
