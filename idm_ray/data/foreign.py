"""WebDataset shards that others wrote: classes mixed, labels beside the images, no index.

They are read once from beginning to end to find every image and to check that it can be decoded;
the index stays in the cache folder, and from then on they are used like shards of our own.
"""

import atexit
import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePosixPath

import braceexpand
from filelock import FileLock

from idm_ray.config import DataConfig
from idm_ray.data.cache import cache_root
from idm_ray.data.foreign_index import index_shards, writing_to
from idm_ray.data.imagenet import TRAIN_TAR
from idm_ray.data.manifest import INDEX_FILE, MANIFEST_FILE, Manifest
from idm_ray.data.shard_set import ShardSet
from idm_ray.errors import DataError
from idm_ray.local_disk import FileEntry
from idm_ray.storage import Location, shown

_FORMAT = 2
"""Part of every key: raise it when the same shards would be indexed differently."""
_MOST_SHARDS = 100_000
_REQUESTS = 16
"""At once, to a remote store that is asked for sizes."""
_RANGE = re.compile(r"\{(?:(-?\d+)\.\.(-?\d+)|([A-Za-z])\.\.([A-Za-z]))(?:\.\.-?(\d+))?\}")
_TOKENS = re.compile(r"(\{[^{},]*\}|[{},])")
"""Braces without others in them, or what opens, parts and closes alternatives."""


def is_foreign(written: str) -> bool:
    """Whether a source is written as tar files, such as data/{000..099}.tar."""
    path = written.partition("?")[0]
    is_tar = re.search(r"\.(tar|tgz|tar\.\w+)$", path) is not None
    return is_tar and PurePosixPath(path).name != TRAIN_TAR


def open_foreign(config: DataConfig) -> ShardSet:
    """Open tar files of strangers, after indexing them if nobody has yet.

    Raises:
        DataError: A shard is missing, given twice, cut short or compressed, no image can be used,
            or the index cannot be written.
    """
    shards = [Location.at(path) for path in _expand(config.data)]
    _refuse_repeats(shards)
    entries = _entries(shards)
    root = _scratch() if config.cache == "none" else cache_root(config.cache_dir) / "index"
    folder = root / _key(shards, entries, config.test_fraction)
    if not (folder / MANIFEST_FILE).exists():
        with _locked(folder):
            if not (folder / MANIFEST_FILE).exists():
                index_shards(shards, [e.size for e in entries], config.test_fraction, folder)
    place = Location.at(folder)
    manifest = Manifest.from_json((place / MANIFEST_FILE).read_bytes(), str(place))
    return ShardSet(manifest, place / INDEX_FILE, shards)


def _expand(written: str) -> list[str]:
    path = written.partition("?")[0]
    if not path.endswith(".tar"):
        raise DataError(
            f"expected plain tar files, found {shown(path)}: compressed ones cannot be read at "
            "random; unpack them (gunzip), or write shards of the images with idm-ray shards"
        )
    try:
        if _count(written) <= _MOST_SHARDS:
            return list(braceexpand.braceexpand(written))
    except (ValueError, RecursionError) as error:  # their words may hold a password
        raise DataError(
            f"expected braces in pairs, as in data/{{000..099}}.tar, found {shown(written)!r}: "
            "correct them"
        ) from error
    raise DataError(
        f"expected {_MOST_SHARDS} shards at most, found more in {shown(written)!r}: "
        "correct the numbers in braces, or write larger shards with idm-ray shards"
    )


def _count(written: str) -> int:
    """How many names braces stand for, at most: expanding them takes memory for all."""
    done, product = [0], [1]
    for part in _TOKENS.split(re.sub(r"\\.", "", written)):
        if part == "{":
            done.append(0)
            product.append(1)
        elif part == "," and len(done) > 1:
            done[-1] += product[-1]
            product[-1] = 1
        elif part == "}" and len(done) > 1:
            alternatives = done.pop() + product.pop()
            product[-1] *= alternatives
        elif found := _RANGE.fullmatch(part):
            product[-1] *= _length(found)
    return done[0] + product[0]


def _length(found: re.Match[str]) -> int:
    first, last, first_letter, last_letter, step = found.groups()
    if first is None:
        first, last = str(ord(first_letter)), str(ord(last_letter))
    return abs(int(last) - int(first)) // max(1, int(step or 1)) + 1


def _refuse_repeats(shards: Sequence[Location]) -> None:
    """Refuse a shard that is given twice, whatever it is called."""
    seen = set[Location]()
    for shard in shards:
        place = Location.at(shard.local.resolve()) if shard.local is not None else shard
        if place in seen:
            raise DataError(
                f"expected every shard once, found {shard} twice: correct the braces, or remove "
                "links to other shards"
            )
        seen.add(place)


def _entries(shards: Sequence[Location]) -> list[FileEntry]:
    with ThreadPoolExecutor(_REQUESTS) as pool:
        found = list(pool.map(Location.entry, shards))
    for shard, entry in zip(shards, found, strict=True):
        if entry is None:
            raise DataError(
                f"expected {shard}, one of {len(shards)} shards, found no such file: correct the "
                "numbers in braces, or copy the missing shards"
            )
    return [entry for entry in found if entry is not None]


def _key(shards: Sequence[Location], entries: Sequence[FileEntry], test_fraction: float) -> str:
    digest = hashlib.sha256(f"{_FORMAT} {test_fraction!r}\0".encode())
    for shard, entry in zip(shards, entries, strict=True):
        digest.update(f"{shard} {entry.size} {entry.mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from indexing into a folder."""
    lock = FileLock(f"{folder}.lock")
    with writing_to(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@cache
def _scratch() -> Path:
    """The folder of the indexes that go with this process."""
    with writing_to(Path(tempfile.gettempdir())):
        folder = tempfile.mkdtemp(prefix="idm_ray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
