"""Images out of shards are those of plain decoding, whatever is kept, asked for or announced."""

import dataclasses
import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.data import sharded as sharded_module
from idm_ray.data.shard_reader import requests
from idm_ray.data.sources import locate, source_bytes
from idm_ray.errors import DataError
from tests.data.making import images_of, opened, picture, write_class, write_sharded, write_tree

COUNTS = {"ant": 12, "bee": 5, "cat": 9}


def write_zoo(root, *, mode="RGB"):
    for number, (name, count) in enumerate(COUNTS.items()):
        write_class(root / "train" / name, count, first=1000 * number, mode=mode)
        write_class(root / "test" / name, 3, first=1000 * number + 500, mode=mode)
    return root


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return write_zoo(tmp_path_factory.mktemp("source") / "zoo")


@pytest.fixture(scope="module")
def shards(zoo):
    return write_sharded(zoo, zoo.parent / "shards", shard_mb=0.005)


@pytest.fixture(scope="module")
def plain(zoo):
    return opened(zoo, zoo.parent / "plain cache")


IMAGE_BYTES = 3 * 8 * 8
KEPT = {
    "everything is kept": {},
    "nothing is kept": {"cache": "none"},
    "some is kept": {"cache_limit": f"{14 * IMAGE_BYTES}B"},
}


@pytest.fixture(params=KEPT)
def kept(request):
    return KEPT[request.param]


def rows(*numbers):
    return np.array(numbers, dtype=np.int64)


# --- What is known without reading an image ---


def test_a_set_is_described_as_its_images_in_folders_are(zoo, shards, plain, tmp_path):
    info = opened(shards, tmp_path / "cache").info
    same = {"source", "fingerprint"}
    fields = [field.name for field in dataclasses.fields(info) if field.name not in same]
    assert {name: getattr(info, name) for name in fields} == {
        name: getattr(plain.info, name) for name in fields
    }
    assert (info.source, len(info.fingerprint)) == (str(shards), 64)


def test_nothing_is_read_but_the_manifest_until_an_image_is_needed(shards, tmp_path):
    sharded = opened(shards, tmp_path / "cache").sharded
    assert sharded.bytes_read == 0
    sharded.train.take(rows(0))
    assert (
        sharded.bytes_read
        == (shards / "index.parquet").stat().st_size + sharded.train.members(0).lengths[0]
    )


@pytest.mark.parametrize("modes", [("L", "L"), ("L", "RGB"), ("RGB", "RGBA")])
def test_statistics_are_those_of_the_decoded_pixels(tmp_path, modes):
    for name, mode in zip(("ant", "bee"), modes, strict=True):
        write_class(tmp_path / "two" / name, 9, first=ord(name[0]) * 10, mode=mode)
    shards = write_sharded(tmp_path / "two", tmp_path / "shards")
    plain, sharded = (opened(path, tmp_path / "cache") for path in (tmp_path / "two", shards))
    assert sharded.info.image_shape == plain.info.image_shape
    assert (sharded.info.mean, sharded.info.std) == (plain.info.mean, plain.info.std)
    assert np.array_equal(images_of(sharded.train), images_of(plain.train))
    assert np.array_equal(images_of(sharded.test), images_of(plain.test))


def test_a_constant_channel_has_deviation_one(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "blue" / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.array(picture(number))
            pixels[..., 2] = 51
            Image.fromarray(pixels).save(tmp_path / "blue" / name / f"{number}.png")
    info = opened(write_sharded(tmp_path / "blue", tmp_path / "shards"), tmp_path / "cache").info
    assert (info.mean[2], info.std[2]) == (0.2, 1.0)


def test_the_fingerprint_is_of_the_images_and_not_of_their_shards(zoo, shards, tmp_path):
    whole = write_sharded(zoo, tmp_path / "whole")
    found = opened(shards, tmp_path / "cache").info.fingerprint
    assert opened(whole, tmp_path / "cache").info.fingerprint == found
    others = {
        opened(shards, tmp_path / "cache", **change).info.fingerprint
        for change in ({"classes": "bee,ant"}, {"classes": "ant,bee"}, {"limit_per_class": 2})
    }
    others.add(opened(shards, tmp_path / "cache", size=4).info.fingerprint)
    assert len(others | {found}) == 5


def test_different_sizes_need_a_size(tmp_path):
    for name in ("ant", "bee"):
        write_class(tmp_path / "uneven" / name, 3)
        picture(9, width=12).save(tmp_path / "uneven" / name / "wide.png")
    shards = write_sharded(tmp_path / "uneven", tmp_path / "shards")
    with pytest.raises(DataError, match=r"images of one size, found different ones .* give --size"):
        opened(shards, tmp_path / "cache")
    plain, sharded = (opened(p, tmp_path / "c", size=6) for p in (tmp_path / "uneven", shards))
    assert np.array_equal(images_of(sharded.train), images_of(plain.train))


def test_shards_are_named_by_path_or_uri_and_measured(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(shards.parent)
    assert locate("shards") == locate(f"file://{shards}") == str(shards)
    config = DataConfig(data=f"file://{shards}", cache_dir=str(tmp_path))
    assert source_bytes(config) == sum(path.stat().st_size for path in shards.rglob("*.tar"))


# --- Taking images ---


def test_all_images_are_those_of_plain_decoding(shards, plain, tmp_path, kept):
    sharded = opened(shards, tmp_path / "cache", **kept)
    for _ in range(2):
        assert np.array_equal(images_of(sharded.train), images_of(plain.train))
        assert np.array_equal(images_of(sharded.test), images_of(plain.test))
    assert (sharded.train.labels == plain.train.labels).all()


@pytest.mark.parametrize("some", [(3,), (25, 0, 12, 11), (7, 7, 2, 7), (16, 17, 15, 17, 16), ()])
def test_any_rows_come_in_the_order_asked_for(shards, plain, tmp_path, kept, some):
    sharded = opened(shards, tmp_path / "cache", **kept)
    for _ in range(2):
        taken = sharded.train.images.take(rows(*some))
        assert (taken.dtype, taken.shape) == (np.uint8, (len(some), 3, 8, 8))
        assert np.array_equal(taken, images_of(plain.train)[list(some)])


def test_what_is_taken_may_be_changed(shards, plain, tmp_path, kept):
    sharded = opened(shards, tmp_path / "cache", **kept)
    images_of(sharded.train)[:] = 0
    assert np.array_equal(images_of(sharded.train), images_of(plain.train))


def test_many_threads_get_the_same_images_at_once(shards, plain, tmp_path, kept):
    sharded = opened(shards, tmp_path / "cache", **kept).sharded.train
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 26, 40) for _ in range(64)]
    expected = images_of(plain.train)
    with ThreadPoolExecutor(8) as pool:
        for batch, found in zip(batches, pool.map(sharded.load, batches), strict=True):
            assert np.array_equal(found, expected[batch])


def test_what_was_announced_is_the_same_as_what_was_not(shards, plain, tmp_path, kept):
    sharded = opened(shards, tmp_path / "cache", **kept).train.images
    expected = images_of(plain.train)
    batches = [rows(3, 1), rows(25, 25), rows(9, 8, 7), rows(3, 1), rows(0)]
    for batch in batches:
        sharded.expect(batch)
    for batch in (*reversed(batches), rows(11), *batches):
        assert np.array_equal(sharded.take(batch), expected[batch])


def test_some_classes_in_any_order_and_a_limit_are_those_of_folders(zoo, shards, tmp_path, kept):
    options = {"classes": "cat,ant", "limit_per_class": 4}
    plain = opened(zoo, tmp_path / "plain", **options)
    sharded = opened(shards, tmp_path / "cache", **options, **kept)
    assert sharded.info.class_names == ("cat", "ant")
    assert sharded.info.train_counts == plain.info.train_counts == (4, 4)
    assert np.array_equal(images_of(sharded.train), images_of(plain.train))
    assert np.array_equal(images_of(sharded.test), images_of(plain.test))


def test_a_class_without_test_images_is_there_all_the_same(tmp_path):
    root = write_tree(tmp_path / "insects")
    for path in (root / "val" / "ant").iterdir():
        path.unlink()
    plain = opened(root, tmp_path / "cache")
    sharded = opened(write_sharded(root, tmp_path / "shards"), tmp_path / "cache")
    assert sharded.info.test_counts == plain.info.test_counts == (0, 2)
    assert np.array_equal(images_of(sharded.test), images_of(plain.test))


# --- The cache ---


def test_with_a_cache_every_image_is_decoded_once(shards, tmp_path):
    train = opened(shards, tmp_path / "cache").sharded.train
    for batch in (rows(1, 2), rows(2, 3, 1, 1), np.arange(26), np.arange(26)):
        train.take(batch)
    assert train.images_decoded == 26


def test_a_complete_cache_is_used_by_the_next_one_without_reading_a_shard(shards, plain, tmp_path):
    first = opened(shards, tmp_path / "cache")
    images_of(first.train)
    assert not first.sharded.cache.finish()
    images_of(first.test)
    first.sharded.test.finish_cache()
    second = opened(shards, tmp_path / "cache")
    assert np.array_equal(images_of(second.train), images_of(plain.train))
    assert np.array_equal(images_of(second.test), images_of(plain.test))
    assert second.sharded.bytes_read == 0
    assert (second.sharded.cache.folder / "complete").exists()


def test_a_limit_smaller_than_the_data_is_kept_and_told(shards, tmp_path):
    data = opened(shards, tmp_path / "cache", **KEPT["some is kept"])
    assert data.sharded.notes == ()
    for _ in range(2):
        images_of(data.train)
    blocks = (data.sharded.cache.folder / "pixels").stat().st_blocks
    assert 512 * blocks <= 2 * 4096
    assert 26 < data.sharded.train.images_decoded < 2 * 26
    (note,) = data.sharded.notes
    assert note.startswith(f"the cache of decoded images takes no more, the limit of {tmp_path}")
    assert "the rest is decoded again" in note


def test_a_cache_disk_without_any_room_is_told_and_ends_nothing(
    shards, plain, tmp_path, monkeypatch
):
    # test_node_cache.py shows on a real disk that this is what happens.
    def refuse(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sharded_module, "NodeCache", refuse)
    data = opened(shards, tmp_path)
    assert np.array_equal(images_of(data.train), images_of(plain.train))
    (note,) = data.sharded.notes
    assert f"takes no more, the disk of {tmp_path} is full: the rest is decoded again" in note


def test_a_cache_folder_that_cannot_be_made_is_refused(shards, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="expected a cache folder to write to, found"):
        opened(shards, tmp_path / "file")


# --- How much is read ---


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Ten classes of 24 images of about 7 kB, and 6 of them for testing."""
    root = tmp_path_factory.mktemp("large")
    for label in range(10):
        folder = root / "ten" / str(label)
        folder.mkdir(parents=True)
        for number in range(30):
            image = picture(1000 * label + number, width=48, height=48)
            image.save(folder / f"{number:02d}.bmp")
    return write_sharded(root / "ten", root / "shards", shard_mb=0.05)


def test_whoever_owns_one_of_ten_classes_reads_a_tenth_of_the_bytes(large):
    data = opened(large, None, cache="none")
    total = sum(path.stat().st_size for path in large.rglob("*.tar"))
    train = data.train
    batches = [np.array(train.class_rows(4))[first : first + 8] for first in (0, 8, 16)]
    for batch in batches:
        train.images.expect(batch)
        train.images.take(batch)
    assert 0.06 * total < data.sharded.bytes_read < 0.12 * total


def test_the_first_batch_reads_its_own_images_alone(large):
    data = opened(large, None, cache="none")
    data.train.images.take(rows(24 * 7 + 3, 24 * 7 + 20))
    of_class = data.sharded.shards.manifest.train[7].encoded_bytes
    index = (large / "index.parquet").stat().st_size
    assert data.sharded.bytes_read - index < 0.1 * of_class
    assert index < 0.1 * of_class * 10


def test_neighbours_are_read_with_one_request_and_others_apart(large):
    members = opened(large, None, cache="none").sharded.train.members(2)
    first = int((members.shards == members.shards[0]).sum())
    assert 3 < first < 24
    found = [request.tolist() for request in requests(members, np.arange(first)[::-1])]
    assert found == [list(range(first))]
    found = [request.tolist() for request in requests(members, rows(23, 2, 0))]
    assert found == [[0], [2], [23]]
    found = [request.tolist() for request in requests(members, rows(first, first - 1))]
    assert found == [[first - 1], [first]]
    assert list(requests(members, rows())) == []
