"""A data set out of shards: known from the manifest alone, its images read when they are needed."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from idm_ray.checks import parse_bytes
from idm_ray.config import DataConfig
from idm_ray.data.build import BuiltData
from idm_ray.data.cache import cache_root, refuse_cache
from idm_ray.data.classes import check_known, parse_classes
from idm_ray.data.manifest import (
    SPLITS,
    ClassRecord,
    Manifest,
    SplitName,
    fingerprint,
    image_shape,
    statistics,
)
from idm_ray.data.node_cache import DISK_IS_FULL, NodeCache
from idm_ray.data.shard_images import ShardImages, ShardView
from idm_ray.data.shard_set import ShardSet
from idm_ray.data.shard_stream import CacheFiller
from idm_ray.data.splits import check_counts
from idm_ray.errors import DataError

_FORMAT = 1
"""Part of every key: raise it when the same bytes would be decoded to other pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardedImages:
    """The images of a set that a config asks for.

    Attributes:
        built: what is known of them.
        train: training images.
        test: test images.
        cache: where they are kept once decoded; None keeps nothing.
        shards: the set.
        no_room: why there is no cache though there should be one.
    """

    built: BuiltData
    train: ShardImages
    test: ShardImages
    cache: NodeCache | None
    shards: ShardSet
    no_room: str = ""

    def fill_cache(self, *, seed: int) -> CacheFiller | None:
        """Begin to stream all training images into the cache, in a random order of shards."""
        if self.cache is None or self.cache.finish():
            return None
        return CacheFiller(self.train, self.cache.folder / "streaming", seed=seed)

    def close(self) -> None:
        """Load nothing in the background any more."""
        self.train.close()
        self.test.close()

    @property
    def bytes_read(self) -> int:
        """Out of shards and their index, by this process, so far."""
        return self.shards.reader.bytes_requested

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know of, so far."""
        why = self.cache.full if self.cache is not None else self.no_room
        if not why:
            return ()
        return (
            f"the cache of decoded images takes no more, {why}: the rest is decoded again whenever "
            f"it is needed (on {platform.node()})",
        )


def open_sharded(shards: ShardSet, config: DataConfig) -> ShardedImages:
    """Open shards without reading any image.

    Raises:
        DataError: classes are unknown, sizes differ and none is given, or the cache folder cannot
            be written to.
    """
    manifest = shards.manifest
    labels = _labels(manifest, config.classes)
    shape = _shape(manifest, labels, config.size)
    views = [_view(manifest, split, labels, shape, config) for split in SPLITS]
    built = _describe(manifest, labels, shape, views, config)
    cache, no_room = _open_cache(built, config)
    train, test = (
        ShardImages(shards, view, cache, first)
        for view, first in zip(views, (0, sum(built.train_counts)), strict=True)
    )
    return ShardedImages(built, train, test, cache, shards, no_room)


def _labels(manifest: Manifest, classes: str | None) -> tuple[int, ...]:
    """The set's labels of the classes of a run."""
    if classes is None:
        return tuple(range(len(manifest.class_names)))
    names = parse_classes(classes)
    check_known(names, manifest.class_names, manifest.name)
    return tuple(manifest.class_names.index(name) for name in names)


def _shape(manifest: Manifest, labels: Sequence[int], size: int | None) -> tuple[int, int, int]:
    records = _records(manifest, labels)
    if size is not None:
        return (max(record.channels for record in records), size, size)
    shape = image_shape(records)
    if shape is None:
        raise DataError(
            f"expected images of one size, found different ones in the shards of {manifest.name}: "
            "give --size to bring them to one"
        )
    return shape


def _view(
    manifest: Manifest,
    split: SplitName,
    labels: tuple[int, ...],
    shape: tuple[int, int, int],
    config: DataConfig,
) -> ShardView:
    counts = [manifest.split(split)[label].images for label in labels]
    if split == "train" and config.limit_per_class is not None:
        counts = [min(count, config.limit_per_class) for count in counts]
    return ShardView(
        split=split, labels=labels, counts=tuple(counts), image_shape=shape, size=config.size
    )


def _describe(
    manifest: Manifest,
    labels: Sequence[int],
    shape: tuple[int, int, int],
    views: Sequence[ShardView],
    config: DataConfig,
) -> BuiltData:
    names = tuple(manifest.class_names[label] for label in labels)
    train, test = (np.array(view.counts) for view in views)
    check_counts(names, train, test)
    mean, std = statistics([manifest.train[label] for label in labels], shape[0])
    return BuiltData(
        class_names=names,
        image_shape=shape,
        train_counts=views[0].counts,
        test_counts=views[1].counts,
        mean=mean,
        std=std,
        fingerprint=fingerprint(manifest, labels, shape, config.size, config.limit_per_class),
        skipped=manifest.skipped,
        unreadable=manifest.problems,
    )


def _records(manifest: Manifest, labels: Sequence[int]) -> list[ClassRecord]:
    records = [manifest.split(split)[label] for split in SPLITS for label in labels]
    return [record for record in records if record.images]


def _open_cache(built: BuiltData, config: DataConfig) -> tuple[NodeCache | None, str]:
    """The cache, or why there is no room for one."""
    if config.cache == "none":
        return None, ""
    limit = parse_bytes("cache_limit", config.cache_limit) if config.cache_limit else None
    key = hashlib.sha256(f"{_FORMAT} shards {built.fingerprint}".encode()).hexdigest()[:32]
    folder = cache_root(config.cache_dir) / key
    counts = (*built.train_counts, *built.test_counts)
    try:
        return NodeCache(folder, counts, built.image_shape, limit_bytes=limit), ""
    except OSError as error:
        if error.errno in DISK_IS_FULL:
            return None, f"the disk of {folder.parent} is full"
        raise refuse_cache(folder.parent, error) from error
