"""Writes shards with one actor per CPU of the cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray

from idm_ray.data.shard_writer import Job, ShardWriter
from idm_ray.runtime.connection import connect, fetch

_WriterActor: Any = ray.remote(ShardWriter)


def num_writers() -> int:
    """How many writers there is room for."""
    connect()
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def write_in_parallel(jobs: Sequence[Job], writers: int, *arguments: Any) -> Iterator[int]:
    """Write all jobs, each writer one at a time.

    Args:
        jobs: of `ShardWriter.jobs`.
        writers: at most so many.
        *arguments: that a `ShardWriter` is made of.

    Yields:
        The number of images of each job, as jobs end.
    """
    shared = [ray.put(argument) for argument in arguments]
    idle = [_WriterActor.remote(*shared) for _ in range(min(writers, len(jobs)))]
    waiting = list(reversed(jobs))
    busy: dict[Any, Any] = {}
    try:
        while waiting or busy:
            while idle and waiting:
                writer = idle.pop()
                busy[writer.write.remote(waiting.pop())] = writer
            done, _ = ray.wait(list(busy))
            idle.append(busy.pop(done[0]))
            yield fetch(done[0])
    finally:
        for writer in (*idle, *busy.values()):
            ray.kill(writer)
