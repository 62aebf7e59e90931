"""A set of shards that is there to be read: its manifest, its index, its files."""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from idm_ray.data.listing import some_names
from idm_ray.data.manifest import INDEX_FILE, MANIFEST_FILE, SPLITS, Manifest, SplitName
from idm_ray.data.shard_index import Members, ShardIndex, are_within
from idm_ray.data.shard_reader import ShardReader
from idm_ray.errors import DataError
from idm_ray.storage import Location


class ShardSet:
    """Shards with what describes them.

    Args:
        manifest: of the set.
        index: its index.
        locations: of its shards.
    """

    def __init__(self, manifest: Manifest, index: Location, locations: Sequence[Location]) -> None:
        self.manifest = manifest
        self.locations = tuple(locations)
        self.reader = ShardReader(self.locations, [shard.size for shard in manifest.shards])
        self._index_file = index

    def members(self, split: SplitName, label: int) -> Members:
        """Return where the images of a class lie.

        Raises:
            DataError: the index is not that of the manifest, or leads out of its shards.
        """
        members = self._index.members(self._number(split, label))
        sizes = np.array([shard.size for shard in self.manifest.shards], dtype=np.int64)
        if not are_within(members, sizes):
            raise DataError(
                f"expected {self._index_file} to lead into the shards of its manifest, found a "
                "place outside of them: write the shards again with idm-ray shards"
            )
        return members

    def keys(self, split: SplitName, label: int) -> pa.StringArray:
        """Return the names of a class's images within their shards."""
        return self._index.keys(self._number(split, label))

    def _number(self, split: SplitName, label: int) -> int:
        return SPLITS.index(split) * len(self.manifest.class_names) + label

    @cached_property
    def _index(self) -> ShardIndex:
        file = self._index_file
        content = file.read_bytes()
        self.reader.count(len(content))
        if hashlib.sha256(content).hexdigest() != self.manifest.index.sha256:
            raise DataError(
                f"expected {file} to be the index of the manifest beside it, found another one: "
                "copy both again"
            )
        counts = [record.images for split in SPLITS for record in self.manifest.split(split)]
        return ShardIndex(content, counts, str(file))


def open_shards(folder: Location) -> ShardSet:
    """Open a set that `idm-ray shards` wrote.

    Raises:
        DataError: there is no manifest, it is damaged, or shards are missing or have other sizes.
    """
    file = folder / MANIFEST_FILE
    manifest = Manifest.from_json(file.read_bytes(), str(file))
    _check_files(folder, manifest)
    return ShardSet(
        manifest, folder / INDEX_FILE, [folder / shard.path for shard in manifest.shards]
    )


def _check_files(folder: Location, manifest: Manifest) -> None:
    found = {entry.path: entry.size for entry in folder.files()}
    for shard in manifest.shards:
        size = found.get(shard.path)
        if size is None:
            raise DataError(
                f"expected {folder / shard.path} as the manifest says, found no such file: copy "
                "the missing shards, or write them again with idm-ray shards"
            )
        if size != shard.size:
            raise DataError(
                f"expected {shard.size} bytes in {folder / shard.path} as the manifest says, found "
                f"{size}: copy it again, or write the shards again with idm-ray shards"
            )
    listed = {shard.path for shard in manifest.shards}
    unknown = sorted(path for path in found if path.endswith(".tar") and path not in listed)
    if unknown:
        raise DataError(
            f"expected only shards of the manifest in {folder}, found {some_names(unknown)}: move "
            "them elsewhere, or write the shards again with idm-ray shards"
        )
