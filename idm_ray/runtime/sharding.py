"""Writes shards with one actor per CPU of the cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.data.listing import Source
from idm_ray.data.shard_parts import ShardSettings
from idm_ray.data.shard_target import check_sight, leave_token
from idm_ray.data.shard_writer import Job, ShardWriter
from idm_ray.runtime.connection import connect, fetch
from idm_ray.storage import Location


class _Writer:
    """A `ShardWriter` that is made by a call: Ray does not pass on what a constructor raises."""

    def open(
        self,
        token: str,
        places: Sequence[Location],
        source: Source,
        settings: ShardSettings,
        target: Location,
    ) -> None:
        check_sight(token, places, target)
        self._writer = ShardWriter(source, settings, target)

    def write(self, job: Job) -> int:
        return self._writer.write(job)


# Spread: the disks and the network of all nodes are to read, not those of the first.
_WriterActor: Any = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_Writer)


def num_writers() -> int:
    """How many writers there is room for."""
    connect()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def write_in_parallel(
    jobs: Sequence[Job],
    writers: int,
    *,
    places: Sequence[Location],
    source: Source,
    settings: ShardSettings,
    target: Location,
) -> Iterator[int]:
    """Write all jobs, each writer one at a time.

    Args:
        jobs: of `ShardWriter.jobs`.
        writers: at most so many.
        places: of the source, which every node must see.
        source: as `ShardWriter` takes it.
        settings: likewise.
        target: likewise.

    Yields:
        The number of images of each job, as jobs end.
    """
    if not jobs:
        return
    shared = [ray.put(each) for each in (leave_token(target), places, source, settings, target)]
    actors = [_WriterActor.remote() for _ in range(min(writers, len(jobs)))]
    busy = {actor.open.remote(*shared): actor for actor in actors}
    waiting, left = list(reversed(jobs)), len(jobs)
    try:
        while left:
            (done,), _ = ray.wait(list(busy))
            actor, count = busy.pop(done), fetch(done)
            if waiting:
                busy[actor.write.remote(waiting.pop())] = actor
            if count is not None:  # else the writer was only opened
                left -= 1
                yield count
    finally:
        for actor in actors:
            ray.kill(actor)
