"""Streaming shards into the cache: everything, by one process at a time, until it is stopped."""

import threading

import numpy as np
import pytest
from filelock import FileLock

from idm_ray.data.shard_stream import CacheFiller, samples
from idm_ray.storage import Location
from tests.data.making import images_of, opened, write_class, write_sharded


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    root = tmp_path_factory.mktemp("source") / "zoo"
    for number, (name, count) in enumerate({"ant": 30, "bee": 11, "cat": 20}.items()):
        write_class(root / name, count, first=1000 * number)
    return root


@pytest.fixture(scope="module")
def shards(zoo):
    return write_sharded(zoo, zoo.parent / "shards", shard_mb=0.005)


@pytest.fixture(scope="module")
def plain(zoo):
    return opened(zoo, zoo.parent / "plain")


def fill(data, *, seed=0):
    """Fill the cache to its end."""
    filler = data.sharded.fill_cache(seed=seed)
    for thread in filler._threads:
        thread.join()
    return filler


def test_samples_are_images_by_name_without_labels(shards):
    shard = sorted((shards / "train").iterdir())[0]
    found = list(samples(Location.at(shard)))
    assert [sample["__key__"] for sample in found[:2]] == [
        "train-0000-0000000",
        "train-0000-0000001",
    ]
    assert all({"__key__", "__url__", "png"} == set(sample) for sample in found)


def test_a_filler_keeps_all_training_images(shards, plain, tmp_path):
    data = opened(shards, tmp_path / "cache")
    fill(data).stop()
    train = data.sharded.train
    assert train.kept(np.arange(len(train))).all()
    assert train.images_decoded == len(train)
    before = data.sharded.bytes_read
    assert np.array_equal(images_of(data.train), images_of(plain.train))
    assert (data.sharded.bytes_read, train.images_decoded) == (before, len(train))
    assert not data.sharded.cache.finish()


def test_what_is_kept_already_is_not_decoded_again(shards, tmp_path):
    data = opened(shards, tmp_path / "cache")
    images_of(data.train, range(0, len(data.train.images), 3))
    fill(data).stop()
    assert data.sharded.train.images_decoded == len(data.train.images)
    again = opened(shards, tmp_path / "cache")
    fill(again).stop()
    assert again.sharded.train.images_decoded == 0


def test_a_filler_makes_the_cache_outlive_a_restart_once_the_test_images_are_there(
    shards, tmp_path
):
    data = opened(shards, tmp_path / "cache")
    images_of(data.test)
    fill(data).stop()
    assert (data.sharded.cache.folder / "complete").exists()


@pytest.mark.parametrize("options", [{"classes": "cat,ant"}, {"limit_per_class": 5}, {"size": 4}])
def test_only_what_is_used_is_kept(shards, zoo, tmp_path, options):
    plain = opened(zoo, tmp_path / "plain", **options)
    data = opened(shards, tmp_path / "cache", **options)
    fill(data).stop()
    assert data.sharded.train.images_decoded == len(plain.train.images)
    before = data.sharded.bytes_read
    assert np.array_equal(images_of(data.train), images_of(plain.train))
    assert data.sharded.bytes_read == before


def test_without_a_cache_there_is_nothing_to_fill(shards):
    assert opened(shards, None, cache="none").sharded.fill_cache(seed=0) is None


def test_one_fills_at_a_time_and_the_next_after_it(shards, tmp_path):
    one, other, third = (opened(shards, tmp_path / "cache") for _ in range(3))
    first = fill(one)
    idle = fill(other)
    assert other.sharded.train.images_decoded == 0
    idle.stop()
    first.stop()
    first.stop()
    assert len(third.sharded.fill_cache(seed=0)._threads) > 0


def test_whoever_finds_another_one_filling_reads_by_himself(shards, plain, tmp_path):
    data = opened(shards, tmp_path / "cache")
    with FileLock(data.sharded.cache.folder / "streaming"):
        fill(data).stop()
    assert data.sharded.train.images_decoded == 0
    assert np.array_equal(images_of(data.train), images_of(plain.train))


def test_a_filler_stops_between_images(shards, tmp_path):
    images, made = opened(shards, tmp_path / "cache").sharded.train, threading.Event()

    class Stopping:
        """The images, of which the first that passes stops the filler."""

        def __getattr__(self, name):
            return getattr(images, name)

        def offer(self, row, content):
            assert made.wait(60)
            images.offer(row, content)
            filler._stop.set()

    filler = CacheFiller(Stopping(), tmp_path / "lock", seed=0)
    made.set()
    for thread in filler._threads:
        thread.join()
    filler.stop()
    assert 0 < images.images_decoded <= len(filler._threads)


def test_a_filler_stops_when_the_cache_takes_no_more(shards, tmp_path):
    data = opened(shards, tmp_path / "cache", cache_limit="2kB")
    fill(data).stop()
    assert data.sharded.train.cache_is_full
    assert data.sharded.train.images_decoded < len(data.train.images)


def test_changed_bytes_are_not_kept_and_whoever_needs_them_is_told(zoo, shards, plain, tmp_path):
    write_sharded(zoo, tmp_path / "shards", shard_mb=0.005)
    data = opened(tmp_path / "shards", tmp_path / "cache")
    members = data.sharded.train.members(0)
    path = tmp_path / "shards" / data.sharded.shards.manifest.shards[int(members.shards[0])].path
    content = bytearray(path.read_bytes())
    content[int(members.offsets[1]) + 60] ^= 1
    path.write_bytes(content)
    fill(data).stop()
    kept = data.sharded.train.kept(np.arange(len(data.train.images)))
    assert np.flatnonzero(~kept).tolist() == [1]
    rest = np.flatnonzero(kept)
    assert np.array_equal(images_of(data.train, rest), images_of(plain.train, rest))
    with pytest.raises(Exception, match="as it was when it was indexed"):
        images_of(data.train, [1])


def test_a_shard_that_cannot_be_read_ends_the_filling_without_a_word(zoo, shards, tmp_path):
    write_sharded(zoo, tmp_path / "shards", shard_mb=0.005)
    data = opened(tmp_path / "shards", tmp_path / "cache")
    for path in (tmp_path / "shards" / "train").iterdir():
        path.unlink()
    fill(data).stop()
    assert data.sharded.train.images_decoded == 0
