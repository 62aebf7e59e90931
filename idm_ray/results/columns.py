"""The columns of a condensed set: their Arrow schema, their rows, and their hash.

Arrow and numpy only; `condensed` writes the columns to a file and reads them back.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from idm_ray.results.card import Card
from idm_ray.results.pictures import encode_png, to_uint8

ROW_GROUP_BYTES: Final = 32 * 2**20
# What a row takes besides pixels and PNG: names, label and PNG header, generously.
_ROW_OVERHEAD_BYTES: Final = 1024


def make_schema(card: Card) -> pa.Schema:
    """Returns the schema of a file with this card, with the features that `datasets` reads."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(card.class_names), "_type": "ClassLabel"},
        "class_name": {"dtype": "string", "_type": "Value"},
        "pixels": {
            "feature": {"dtype": "float32", "_type": "Value"},
            "length": card.num_pixels,
            "_type": "Sequence",
        },
    }
    # Nullable although nothing is null: `datasets` ignores the features of a column whose type is
    # not its own in this respect too.
    return pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "class_name": pa.string(),
            "pixels": pa.list_(pa.float32(), card.num_pixels),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


def rows_per_group(card: Card) -> int:
    """Returns how many rows keep a row group below `ROW_GROUP_BYTES`; at least one."""
    # Five bytes a number: four for float32 and, at most, one in the PNG.
    return max(1, ROW_GROUP_BYTES // (5 * card.num_pixels + _ROW_OVERHEAD_BYTES))


def make_rows(
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    ranks: Sequence[int],
    card: Card,
) -> pa.RecordBatch:
    """Builds rows of the file.

    Args:
        images: (N, C, H, W), normalised.
        labels: (N,).
        ranks: (N,), which of its class's images each one is; names the image.
        card: The file's card.
    """
    schema = make_schema(card)
    paths = [f"{label:05d}_{rank:04d}.png" for label, rank in zip(labels, ranks, strict=True)]
    pngs = [encode_png(image) for image in to_uint8(images, mean=card.mean, std=card.std)]
    image_type, pixel_type = schema.field("image").type, schema.field("pixels").type
    columns = [
        pa.StructArray.from_arrays(
            [pa.array(pngs, pa.binary()), pa.array(paths, pa.string())], fields=list(image_type)
        ),
        pa.array(labels, pa.int64()),
        pa.array([card.class_names[label] for label in labels], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1)), type=pixel_type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def pixels_of(rows: pa.RecordBatch, card: Card) -> npt.NDArray[np.float32]:
    """Returns the `pixels` of `rows` as a read-only (N, C, H, W) view."""
    flat: npt.NDArray[np.float32] = rows["pixels"].flatten().to_numpy()
    return flat.reshape(-1, *card.image_shape)


class ColumnHash:
    """SHA-256 over rows, independent of how they are cut into row groups.

    Row by row: the label as 8 bytes, little-endian; then class name, path, pixels (float32,
    little-endian, C order) and PNG, each after its length in bytes as 8 bytes, little-endian.
    """

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def update(self, rows: pa.RecordBatch, card: Card) -> None:
        """Adds `rows`, in their order."""
        pictures = rows["image"].to_pylist()
        pixels = pixels_of(rows, card).astype("<f4", copy=False)
        names, labels = rows["class_name"].to_pylist(), rows["label"].to_pylist()
        for label, name, picture, image in zip(labels, names, pictures, pixels, strict=True):
            self._sha256.update(label.to_bytes(8, "little", signed=True))
            path = picture["path"].encode()
            for part in (name.encode(), path, memoryview(image).cast("B"), picture["bytes"]):
                self._sha256.update(len(part).to_bytes(8, "little"))
                self._sha256.update(part)

    def hexdigest(self) -> str:
        """Returns the hash of the rows so far."""
        return self._sha256.hexdigest()
