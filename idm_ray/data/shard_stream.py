"""Streams whole shards in mixed order into the node's cache, beside a run that draws from them.

A run that draws from all classes needs every image sooner or later, and one request for megabytes
is cheaper than a hundred for an image each. What is drawn does not depend on the stream: an image
that has not passed yet is read by itself.
"""

import contextlib
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from idm_ray.data.images import Rows
from idm_ray.data.shard_images import ShardImages
from idm_ray.errors import IdmRayError
from idm_ray.host import num_cores
from idm_ray.storage import Location

_LABEL_SUFFIXES = (".cls", ".json", ".txt")
_PATIENCE_S = 5.0
"""With threads that are to stop while their store does not answer."""


def samples(shard: Location) -> Iterator[dict[str, Any]]:
    """Stream the members of a shard, put together by their names.

    Yields:
        `__key__`, the name, and the bytes of its members under their suffixes; labels are left
        out, and nothing is decoded.
    """
    # It brings torch along, which nothing else here needs.
    import webdataset  # noqa: PLC0415
    from webdataset import tariterators  # noqa: PLC0415

    def opened(shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for source in shards:
            with shard.open_stream() as stream:
                yield {**source, "stream": stream}

    return iter(
        webdataset.DataPipeline(
            webdataset.SimpleShardList([str(shard)]),
            opened,
            webdataset.pipelinefilter(tariterators.tar_file_expander)(select_files=_is_no_label),
            webdataset.pipelinefilter(tariterators.group_by_keys)(),
        )
    )


class CacheFiller:
    """Fills the cache with all images of a split, in threads of its own.

    Args:
        images: of the split, with a cache.
        lock_file: held by the one process of a node that streams; another does nothing.
        seed: of the order of shards.
    """

    def __init__(self, images: ShardImages, lock_file: Path, *, seed: int) -> None:
        self._images = images
        self._lock = FileLock(lock_file, blocking=False)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        with contextlib.suppress(Timeout):
            self._lock.acquire()
            order = np.random.default_rng(seed).permutation(images.shards_used())
            for some in np.array_split(order, max(1, num_cores() // 2)):
                thread = threading.Thread(target=self._fill, args=(some,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        """End once the images under way are kept; again is harmless."""
        self._stop.set()
        deadline = time.monotonic() + _PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._lock.release()

    def _fill(self, shards: Rows) -> None:
        # Not at a lower priority: where others are busy, a thread that waits for a core while it
        # holds Python's lock would hold up the computing. Errors are for whoever needs an image.
        with contextlib.suppress(IdmRayError, OSError):
            for shard in shards.tolist():
                if self._is_over():
                    return
                rows = self._images.rows_by_key(shard)
                if not self._images.kept(np.array(list(rows.values()))).all():
                    # What the library refuses (names that come twice) is not the next shard's.
                    with contextlib.suppress(ValueError, tarfile.TarError):
                        self._fill_from(shard, rows)
            self._images.finish_cache()

    def _fill_from(self, shard: int, rows: dict[str, int]) -> None:
        for sample in samples(self._images.stream(shard)):
            if self._is_over():
                return
            row = rows.get(sample["__key__"])
            if row is not None:
                for member in sample.values():
                    if isinstance(member, bytes):
                        self._images.offer(row, member)

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._images.cache_is_full


def _is_no_label(member: str) -> bool:
    return not member.lower().endswith(_LABEL_SUFFIXES)
