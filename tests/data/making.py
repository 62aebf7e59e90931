"""Small image collections on disk, for the tests of this folder."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.data.dataset import ImageDataset, Split, open_dataset
from idm_ray.data.images import Batch


def picture(number: int, *, width: int = 8, height: int = 8, mode: str = "RGB") -> Image.Image:
    """An image that is different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def write_class(folder: Path, count: int, *, first: int = 0, mode: str = "RGB") -> None:
    """Write `count` images into a class folder, numbered from `first` on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number, mode=mode).save(folder / f"{number:04d}.png")


def write_tree(root: Path, *, train: int = 3, test: int = 2, mode: str = "RGB") -> Path:
    """Write classes "ant" and "bee" with a training and a validation split."""
    for label, name in enumerate(("ant", "bee")):
        write_class(root / "train" / name, train, first=1000 * label, mode=mode)
        write_class(root / "val" / name, test, first=1000 * label + 500, mode=mode)
    return root


def write_parquet(
    path: Path,
    labels: Sequence[object],
    *,
    class_names: Sequence[str] | None = None,
    images: Sequence[bytes | None] | None = None,
    more: Mapping[str, Sequence[object]] | None = None,
    rows_per_group: int = 3,
) -> Path:
    """Write a file as the Hugging Face Hub has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = images or [png(picture(number)) for number in range(len(labels))]
    table = pa.table(
        {"image": [{"bytes": cell, "path": None} for cell in cells], "label": labels}
        | {name: list(values) for name, values in (more or {}).items()}
    )
    if class_names is not None:
        features = {"label": {"names": list(class_names), "_type": "ClassLabel"}}
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def images_of(split: Split, rows: Sequence[int] | range | None = None) -> Batch:
    """The images of a split at some rows, or all of them."""
    chosen = range(len(split.images)) if rows is None else rows
    return split.images.take(np.array(chosen, dtype=np.int64))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG")
    return buffer.getvalue()


def write_sharded(source: str | Path, out: Path, **options: Any) -> Path:
    """Write shards in this process; gives their folder."""
    # Brings torch along, for which processes that are started with a test's file would wait.
    from idm_ray.sharding import write_shards  # noqa: PLC0415

    write_shards(source, out=out, local=True, **options)
    return out


def opened(path: Path, cache: Path | None, /, **options: Any) -> ImageDataset:
    cache_dir = None if cache is None else str(cache)
    return open_dataset(DataConfig(data=str(path), cache_dir=cache_dir, **options))
