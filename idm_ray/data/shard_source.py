"""Shards as a source among others: found by what the user wrote, and read to be written anew."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from idm_ray.config import DataConfig
from idm_ray.data.foreign import is_foreign, open_foreign
from idm_ray.data.listing import EncodedImage, Listing
from idm_ray.data.manifest import MANIFEST_FILE, SPLITS, fingerprint
from idm_ray.data.shard_parts import is_unfinished
from idm_ray.data.shard_reader import requests
from idm_ray.data.shard_set import ShardSet, open_shards
from idm_ray.errors import DataError
from idm_ray.storage import Location


def find_shards(config: DataConfig) -> ShardSet | None:
    """Open the shards that `config.data` names as a path or a URI; None if it names no shards.

    Raises:
        DataError: They cannot be used, or nothing else can be behind a URI.
    """
    if is_foreign(config.data):
        return open_foreign(config)
    folder = Location.at(config.data)
    if (folder / MANIFEST_FILE).exists():
        return open_shards(folder)
    if is_unfinished(folder):
        raise DataError(
            f"expected a whole set of shards in {folder}, found one that is not finished: go on "
            "with idm-ray shards"
        )
    if folder.local is None:
        raise DataError(
            f"expected shards at {folder}, found no {MANIFEST_FILE} there: write them with "
            "idm-ray shards SOURCE --out URI"
        )
    return None


class ShardSource:
    """The images of a set of shards, class by class."""

    is_random_access = True

    def __init__(self, shards: ShardSet) -> None:
        self.name = shards.manifest.name
        self.known_as = shards.manifest.known_as
        self._shards = shards
        self._classes = [(split, c) for split in SPLITS for c in range(self._num_classes)]
        """In the order of the listing."""

    def identity(self) -> Iterator[str]:
        """Yield what the manifest says of the images."""
        yield f"shards {fingerprint(self._shards.manifest, range(self._num_classes))}"

    def listing(self) -> Listing:
        """List the training images class by class, then the test images."""
        counts = self._counts()
        labels = np.repeat([c for _, c in self._classes], counts)
        is_test = np.repeat([split == "test" for split, _ in self._classes], counts)
        manifest = self._shards.manifest
        return Listing(
            manifest.class_names,
            labels,
            is_test,
            skipped=manifest.skipped,
            problems=manifest.problems,
        )

    def read(self, rows: NDArray[np.int64]) -> Iterator[EncodedImage]:
        """Yield the images at `rows`, neighbours with one request."""
        first = 0
        for (split, c), count in zip(self._classes, self._counts(), strict=True):
            positions = rows[(rows >= first) & (rows < first + count)] - first
            first += count
            if not len(positions):
                continue
            members = self._shards.members(split, c)
            for request in requests(members, positions):
                for position, content in self._shards.reader.read(members, request):
                    where = f"{split} image {position} of class {c} in {self.name}"
                    yield EncodedImage(where, partial(bytes, content))

    @property
    def _num_classes(self) -> int:
        return len(self._shards.manifest.class_names)

    def _counts(self) -> Sequence[int]:
        manifest = self._shards.manifest
        return [manifest.split(split)[c].images for split, c in self._classes]
