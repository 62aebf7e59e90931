"""The decoded images on disk: built once, checked, and shared by all processes of a machine."""

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from idm_ray.config import DataConfig
from idm_ray.data.arrays import Pixels
from idm_ray.data.build import TEST_FILE, TRAIN_FILE, BuiltData, build
from idm_ray.data.listing import Source
from idm_ray.errors import DataError
from idm_ray.host import user_cache

_FORMAT = 1
"""Part of every key: raise it when the same files would be decoded to other pixels."""
_INFO_FILE = "info.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class CachedImages:
    """A source's decoded images, mapped into memory."""

    built: BuiltData
    train: Pixels
    """(N, C, H, W) uint8, sorted by class, read-only."""
    test: Pixels
    """As `train`."""


def open_cache(source: Source, config: DataConfig) -> CachedImages:
    """Map a source's decoded images, after decoding them if nobody has yet.

    Several processes may call this at once: one decodes, the others wait for it. A cache appears
    by one rename when it is complete; a killed builder leaves only a hidden folder, which the next
    one removes. Files that do not fit their description are decoded again.

    Raises:
        DataError: The source is unusable, or the cache folder cannot be written to.
    """
    if config.cache == "none":
        return _decode_without_trace(source, config)
    key = _key(source, config)
    root = cache_root(config.cache_dir)
    cached = _load(root / key)
    if cached is not None:
        return cached
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f"{key}.lock"):
            return _load(root / key) or _build(source, config, root / key)
    except OSError as error:
        raise refuse_cache(root, error) from error


def _decode_without_trace(source: Source, config: DataConfig) -> CachedImages:
    """Decode into files that have no name any more: they go with this process."""
    with tempfile.TemporaryDirectory(prefix="idm_ray-") as scratch:
        folder = Path(scratch)
        try:
            _decode(source, config, folder)
        except OSError as error:
            raise refuse_cache(folder, error) from error
        cached = _load(folder)
    assert cached is not None, "it was just written"
    return cached


def refuse_cache(root: Path, error: OSError) -> DataError:
    """Say that a cache folder cannot be written to."""
    return DataError(
        f"expected a cache folder to write to, found {root} with: {error.strerror or error}; "
        "give another with --cache-dir, or decode less with --size or --limit-per-class"
    )


def cache_root(cache_dir: str | None) -> Path:
    """The folder of all caches."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return user_cache()


def _key(source: Source, config: DataConfig) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {config.size} {config.limit_per_class}\0".encode())
    for part in source.identity():
        digest.update(os.fsencode(part) + b"\0")
    return digest.hexdigest()[:32]


def _load(folder: Path) -> CachedImages | None:
    """Map a cache, or return None if there is none or it is damaged."""
    try:
        built = _from_json(json.loads((folder / _INFO_FILE).read_text(encoding="utf-8")))
        train = _map(folder / TRAIN_FILE, (sum(built.train_counts), *built.image_shape))
        test = _map(folder / TEST_FILE, (sum(built.test_counts), *built.image_shape))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CachedImages(built, train, test)


def _map(path: Path, shape: tuple[int, ...]) -> Pixels:
    images: Pixels = open_memmap(path, mode="r")  # refuses pickled objects, archives, short files
    expected_bytes = images.offset + images.nbytes
    if images.shape != shape or images.dtype != np.uint8 or path.stat().st_size != expected_bytes:
        raise ValueError(f"{path} does not hold {shape} uint8 values")
    return images


def _build(source: Source, config: DataConfig, target: Path) -> CachedImages:
    """Decode into a hidden folder beside `target` and rename it; the caller holds the lock."""
    for abandoned in (target, *target.parent.glob(f".{target.name}-*")):
        shutil.rmtree(abandoned, ignore_errors=True)
    _log.info("decoding %s into %s", config.data, target)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        folder = Path(scratch) / "complete"
        folder.mkdir()
        _decode(source, config, folder)
        folder.rename(target)
    cached = _load(target)
    assert cached is not None, f"{target} was just written"
    return cached


def _decode(source: Source, config: DataConfig, folder: Path) -> None:
    built = build(source, size=config.size, limit_per_class=config.limit_per_class, folder=folder)
    _write_synced(folder / _INFO_FILE, json.dumps(dataclasses.asdict(built), indent=1))


def _write_synced(path: Path, text: str) -> None:
    """Write a file that is on the disk before the rename after it is."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _from_json(values: dict[str, Any]) -> BuiltData:
    """Rebuild what `json` made lists of; missing and unknown keys are a TypeError."""
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    return BuiltData(**fields)
