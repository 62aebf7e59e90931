"""From any source to a set of WebDataset shards."""

import importlib
from collections.abc import Iterable
from os import PathLike, fspath
from typing import Any

from idm_ray.checks import positive
from idm_ray.config import DataConfig
from idm_ray.data.manifest import Manifest
from idm_ray.data.shard_parts import ShardSettings, assemble
from idm_ray.data.shard_target import begin, refuse_overlap, sole_writer, source_places
from idm_ray.data.shard_writer import ShardWriter
from idm_ray.data.sources import WORDS, find_source
from idm_ray.execution import Listener, Started
from idm_ray.progress import Advanced, Announcement
from idm_ray.resolving import plain_values
from idm_ray.storage import Location


def write_shards(
    source: str | PathLike[str],
    *,
    out: str | PathLike[str],
    shard_mb: float = 256.0,
    overwrite: bool = False,
    local: bool = False,
    listener: Listener = lambda event: None,
    **options: Any,
) -> Manifest:
    """Write a source as class-sorted WebDataset shards with their manifest.

    The bytes depend on the source and the options alone. What was begun and killed goes on with
    the classes that are missing.

    Args:
        source: as `--data` takes it.
        out: a new folder, or a URI.
        shard_mb: a shard is no larger, in millions of bytes, unless one image is.
        overwrite: replace the shards that `out` holds.
        local: write in this process, without Ray.
        listener: is told what happens, as it happens.
        **options: of `idm_ray.config.DataConfig`: size, classes, limit_per_class, ...

    Returns:
        What manifest.json says.

    Raises:
        UserError: wrong options, an unusable source, or another set, tar files of others or another
            writer in `out`.
        StorageError: `out` cannot be written to any more.
    """
    config = DataConfig(data=fspath(source), **plain_values(options))
    positive("shard_mb", shard_mb)
    found = find_source(config)
    places = [] if config.data in WORDS else source_places(config.data)
    settings = ShardSettings(
        size=config.size,
        shard_bytes=int(shard_mb * 1e6),
        limit_per_class=config.limit_per_class,
        strict=config.strict,
    )
    target = Location.at(out)
    refuse_overlap(places, target)
    # What refuses the source comes first: it must not leave a set that was begun.
    writer = ShardWriter(found, settings, target)
    with sole_writer(target):
        begin(writer.plan(), target, overwrite=overwrite)
        # Ray is heavy, and --local must work where there is none.
        ray_writers = None if local else importlib.import_module("idm_ray.runtime.sharding")
        num_writers = 1 if ray_writers is None else ray_writers.num_writers()
        jobs = writer.jobs(num_writers)
        if ray_writers is None:
            counts = map(writer.write, jobs)
        else:
            shared = {"places": places, "source": found, "settings": settings, "target": target}
            counts = ray_writers.write_in_parallel(jobs, num_writers, **shared)
        listener(Announcement(f"{found.name}: {len(writer.class_names)} classes to {target}"))
        listener(Started("write", len(jobs)))
        _tell(counts, listener)
        return assemble(found, writer.listing, settings, target)


def _tell(counts: Iterable[int], listener: Listener) -> None:
    """Go through the images of all jobs, and say how many there are so far."""
    images = 0
    for done, count in enumerate(counts, start=1):
        images += count
        listener(Advanced(done, f"{images} images"))
