"""Random images on disk, in the shape of a data set: speed does not depend on what they show."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

_ROWS_PER_GROUP = 1000
_TEST_IMAGES_PER_CLASS = 1
"""Nothing is tested, but a data set has a test split."""


def write_random_images(
    folder: Path, *, image_size: tuple[int, int], num_classes: int, images_per_class: int
) -> None:
    """Write training and test images as Parquet files that `--data` takes.

    Args:
        folder: where to; it must exist.
        image_size: (H, W) of the RGB images.
        num_classes: labels 0 ... num_classes - 1.
        images_per_class: training images of each.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", images_per_class), ("test", _TEST_IMAGES_PER_CLASS)):
        labels = np.repeat(np.arange(num_classes), count)
        _write(folder / f"{split}.parquet", labels, image_size, rng)


def _write(
    path: Path,
    labels: np.ndarray[tuple[int], np.dtype[np.int64]],
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.int64())])
    # Noise does not compress.
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for first in range(0, len(labels), _ROWS_PER_GROUP):
            some = labels[first : first + _ROWS_PER_GROUP]
            pixels = rng.integers(0, 256, (len(some), *image_size, 3), dtype=np.uint8)
            cells = [{"bytes": _bitmap(one), "path": None} for one in pixels]
            table = pa.table({"image": cells, "label": some}, schema=schema)
            writer.write_table(table)


def _bitmap(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    """An image file of (H, W, 3) pixels, in the format that is cheapest to write and to read."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="bmp")
    return buffer.getvalue()
