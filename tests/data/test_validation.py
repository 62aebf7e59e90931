"""Training images held out for validation: which they are, wherever they come from."""

from collections import Counter

import numpy as np
import pytest

from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.errors import DataError
from tests.data.making import images_of, opened, write_class, write_sharded

COUNTS = {"ant": 20, "bee": 9, "cat": 14}  # and 16, 7, 11 of them are training images


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    root = tmp_path_factory.mktemp("source") / "zoo"
    for number, (name, count) in enumerate(COUNTS.items()):
        write_class(root / name, count, first=1000 * number)
    return root


@pytest.fixture(scope="module")
def shards(zoo):
    return write_sharded(zoo, zoo.parent / "shards", shard_mb=0.005)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["digits", "folder", "shards"])
def source(request, zoo, shards):
    return {"digits": "digits", "folder": zoo, "shards": shards}[request.param]


def single(split, label):
    """How often each image of a class is in a split."""
    return Counter(image.tobytes() for image in images_of(split, split.class_rows(label)))


def test_each_training_image_is_held_out_or_stays(source, cache):
    whole, cut = opened(source, cache), opened(source, cache, val_fraction=0.25)
    for label, count in enumerate(whole.info.train_counts):
        stays, held_out = single(cut.train, label), single(cut.validation, label)
        assert stays + held_out == single(whole.train, label)
        assert held_out.total() == cut.info.val_counts[label] == round(0.25 * count)
        assert stays.total() == cut.info.train_counts[label]
    assert np.array_equal(images_of(cut.test), images_of(whole.test))
    assert cut.validation.labels.tolist() == sorted(cut.validation.labels)


def test_no_image_is_on_both_sides(zoo, cache):
    cut = opened(zoo, cache, val_fraction=0.25)
    assert not any(single(cut.train, c) & single(cut.validation, c) for c in range(3))


def test_what_stays_keeps_its_order(zoo, cache):
    whole, cut = opened(zoo, cache), opened(zoo, cache, val_fraction=0.25)
    held_out = {image.tobytes() for image in images_of(cut.validation)}
    expected = [image for image in images_of(whole.train) if image.tobytes() not in held_out]
    assert np.array_equal(images_of(cut.train), np.stack(expected))


@pytest.mark.parametrize("kept", [{}, {"cache": "none"}], ids=str)
def test_shards_hold_out_what_folders_do(zoo, shards, cache, tmp_path, kept):
    plain = opened(zoo, cache, val_fraction=0.25)
    sharded = opened(shards, tmp_path, val_fraction=0.25, **kept)
    for one, other in ((plain.train, sharded.train), (plain.validation, sharded.validation)):
        assert np.array_equal(images_of(one), images_of(other))
        rows = np.array([3, 0, 3])
        other.images.expect(rows)
        assert np.array_equal(one.images.take(rows), other.images.take(rows))
        assert one.offsets.tolist() == other.offsets.tolist()


def test_a_class_has_the_same_ones_whatever_stands_beside_it(zoo, cache):
    whole = opened(zoo, cache, val_fraction=0.25)
    some = opened(zoo, cache, val_fraction=0.25, classes="cat,ant")
    assert single(some.validation, 0) == single(whole.validation, 2)
    assert single(some.validation, 1) == single(whole.validation, 0)


def test_places_differ_from_class_to_class():
    whole = open_dataset(DataConfig(limit_per_class=100))
    cut = open_dataset(DataConfig(limit_per_class=100, val_fraction=0.25))
    places = set()
    for label in range(10):
        held_out, own = single(cut.validation, label), whole.train.class_rows(label)
        found = [image.tobytes() in held_out for image in images_of(whole.train, own)]
        places.add(tuple(found))
    assert len(places) == 10


def test_one_at_least_is_held_out_and_one_stays(tmp_path):
    for label, (name, count) in enumerate({"ant": 1, "bee": 2, "cat": 5}.items()):
        write_class(tmp_path / "zoo" / "train" / name, count, first=1000 * label)
        write_class(tmp_path / "zoo" / "val" / name, 1, first=1000 * label + 500)
    few = opened(tmp_path / "zoo", tmp_path / "cache", val_fraction=0.01).info
    assert (few.train_counts, few.val_counts) == ((1, 1, 4), (0, 1, 1))
    many = opened(tmp_path / "zoo", tmp_path / "cache", val_fraction=0.99).info
    assert (many.train_counts, many.val_counts) == ((1, 1, 1), (0, 1, 4))
    with pytest.raises(DataError) as raised:
        opened(tmp_path / "zoo", tmp_path / "cache", val_fraction=0.2, limit_per_class=1)
    assert str(raised.value) == (
        "expected training images to hold out for validation (val_fraction 0.2), found one of "
        "each class: add images, or set val_fraction 0"
    )


def test_nothing_held_out_changes_nothing(source, cache):
    whole, zero = opened(source, cache), opened(source, cache, val_fraction=0.0)
    assert zero.info == whole.info
    assert (zero.validation, zero.info.val_counts) == (None, ())
    assert type(zero.train.images) is type(whole.test.images)


def test_the_fingerprint_says_what_is_held_out_and_statistics_stay(source, cache):
    fractions = (0.0, 0.1, 0.4)
    infos = [opened(source, cache, val_fraction=fraction).info for fraction in fractions]
    assert len({info.fingerprint for info in infos}) == 3
    assert {len(info.fingerprint) for info in infos} == {64}
    assert len({(info.mean, info.std) for info in infos}) == 1
    again = opened(source, cache, val_fraction=0.1).info
    assert again == infos[1]


def test_the_cache_is_that_of_the_whole_data(zoo, shards, tmp_path):
    for source in (zoo, shards):
        cache = tmp_path / source.name
        opened(source, cache)
        before = sorted(cache.iterdir())
        opened(source, cache, val_fraction=0.25)
        assert sorted(cache.iterdir()) == before


def test_shards_fill_one_cache_with_all_splits(shards, tmp_path):
    cut = opened(shards, tmp_path, val_fraction=0.25)
    for thread in cut.sharded.fill_cache(seed=0)._threads:
        thread.join()
    images_of(cut.train), images_of(cut.validation)
    assert cut.sharded.train.images_decoded == 16 + 7 + 11
    images_of(cut.test)
    cut.sharded.test.finish_cache()
    assert len(list(tmp_path.glob("*/*/complete"))) == 1
    assert opened(shards, tmp_path).sharded.fill_cache(seed=0) is None
