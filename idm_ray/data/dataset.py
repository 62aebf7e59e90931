"""A labelled image collection: what every other part of idm_ray reads."""

import dataclasses
import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idm_ray.config import DataConfig
from idm_ray.data.build import BuiltData
from idm_ray.data.cache import open_cache
from idm_ray.data.images import Images, MappedImages, SomeImages
from idm_ray.data.known import KNOWN, recognise
from idm_ray.data.shard_set import ShardSet
from idm_ray.data.shard_source import find_shards
from idm_ray.data.sharded import ShardedImages, open_sharded
from idm_ray.data.sources import WORDS, find_source
from idm_ray.data.splits import hold_out_validation, refuse_left_out


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """What a data set is, without its pixels."""

    source: str
    """As the user wrote it."""
    name: str
    """Short: "digits", or the folder's or file's name."""
    known_as: str | None
    """A key of `known.KNOWN`, or None."""
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """C, H, W."""
    train_counts: tuple[int, ...]
    """Training images of each class, after `limit_per_class` and without those for validation."""
    val_counts: tuple[int, ...] = ()
    """Images of each class that `val_fraction` holds out; empty if it is 0."""
    test_counts: tuple[int, ...]
    mean: tuple[float, ...]
    """Per channel, of pixels in [0, 1]: the published value of a known data set, else computed
    from the training images, those for validation among them."""
    std: tuple[float, ...]
    """As `mean`; 1.0 for a constant channel."""
    flips: bool
    """Whether a mirror image keeps its class."""
    fingerprint: str
    """SHA-256 of the decoded pixels, labels and class names of all splits, in hexadecimal; the
    same wherever the same images are, and another where others are held out for validation."""
    skipped: int
    """Images left out because they could not be read."""
    unreadable: tuple[str, ...] = ()
    """The first few of them, each with its reason."""

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """The images for training, for validation or for testing, sorted by class."""

    images: Images
    """N of them."""
    offsets: NDArray[np.int64]
    """(num_classes + 1,): class c is in rows offsets[c]:offsets[c + 1]."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) the class of each row."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def class_rows(self, c: int) -> range:
        """Return the rows of class `c`."""
        return range(int(self.offsets[c]), int(self.offsets[c + 1]))


@dataclass(frozen=True, slots=True, eq=False)
class ImageDataset:
    """A data set, ready to be drawn from."""

    info: DatasetInfo
    train: Split
    test: Split
    sharded: ShardedImages | None = None
    """The images, if they come out of shards."""
    validation: Split | None = None
    """Out of the training images, if `val_fraction` holds some out."""


def open_dataset(config: DataConfig) -> ImageDataset:
    """Open a data set.

    Shards are read when their images are needed; any other source is decoded into the cache first,
    if that was not done before.

    Raises:
        DataError: The source does not exist or cannot be used; one line says what to do.
    """
    shards = None if config.data in WORDS else find_shards(config)
    dataset = _decoded(config) if shards is None else _sharded(shards, config)
    if config.strict:
        refuse_left_out(dataset.info.skipped, dataset.info.unreadable)
    return _hold_out(dataset, config.val_fraction) if config.val_fraction else dataset


def _decoded(config: DataConfig) -> ImageDataset:
    source = find_source(config)
    cached = open_cache(source, config)
    return ImageDataset(
        _info(config, source.name, source.known_as, cached.built),
        Split(MappedImages(cached.train), _offsets(cached.built.train_counts)),
        Split(MappedImages(cached.test), _offsets(cached.built.test_counts)),
    )


def _sharded(shards: ShardSet, config: DataConfig) -> ImageDataset:
    images = open_sharded(shards, config)
    manifest = shards.manifest
    return ImageDataset(
        _info(config, manifest.name, manifest.known_as, images.built),
        Split(images.train, _offsets(images.built.train_counts)),
        Split(images.test, _offsets(images.built.test_counts)),
        images,
    )


def _hold_out(dataset: ImageDataset, fraction: float) -> ImageDataset:
    """Take the validation images out of the training images; caches hold both as one."""
    info, whole = dataset.info, dataset.train
    held = hold_out_validation(info.class_names, info.train_counts, fraction)
    train, validation = (_part(whole, np.flatnonzero(chosen)) for chosen in (~held, held))
    train_counts, val_counts = (
        tuple(np.diff(split.offsets).tolist()) for split in (train, validation)
    )
    # Counts and names say which rows are held out.
    fingerprint = hashlib.sha256(f"{info.fingerprint} validation {val_counts}".encode()).hexdigest()
    info = dataclasses.replace(
        info, train_counts=train_counts, val_counts=val_counts, fingerprint=fingerprint
    )
    return dataclasses.replace(dataset, info=info, train=train, validation=validation)


def _part(whole: Split, rows: NDArray[np.int64]) -> Split:
    """Some of the images of a split, at ascending rows."""
    return Split(SomeImages(whole.images, rows), np.searchsorted(rows, whole.offsets))


def _offsets(counts: tuple[int, ...]) -> NDArray[np.int64]:
    return np.cumsum((0, *counts), dtype=np.int64)


def _info(config: DataConfig, name: str, known_as: str | None, built: BuiltData) -> DatasetInfo:
    known_as = known_as or recognise(name, built.class_names, built.image_shape)
    known = KNOWN[known_as] if known_as is not None else None
    return DatasetInfo(
        source=config.data,
        name=name,
        known_as=known_as,
        class_names=built.class_names,
        image_shape=built.image_shape,
        train_counts=built.train_counts,
        test_counts=built.test_counts,
        mean=(known and known.mean) or built.mean,
        std=(known and known.std) or built.std,
        flips=known is None or known.flips if config.flips == "auto" else config.flips == "on",
        fingerprint=built.fingerprint,
        skipped=built.skipped,
        unreadable=built.unreadable,
    )
