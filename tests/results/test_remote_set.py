import numpy as np
import pytest
import torch

import idm_ray
from idm_ray.errors import CondensedSetError, StorageError
from idm_ray.results.condensed import read_card, write_condensed
from idm_ray.storage import Location
from tests.results.sets import make_arrays, make_card


@pytest.fixture
def uri(store, tmp_path):
    images, labels = make_arrays(make_card())
    path = tmp_path / "condensed.parquet"
    write_condensed(path, images=images, labels=labels, card=make_card())
    place = Location.at(store.bucket) / "run" / "condensed.parquet"
    place.write_bytes(path.read_bytes())
    return str(place)


def test_a_set_is_loaded_from_a_uri(uri):
    loaded = idm_ray.load(uri)
    images, labels = make_arrays(make_card())
    assert np.array_equal(loaded.images.numpy(), images)
    assert torch.equal(loaded.labels, torch.from_numpy(labels))
    assert loaded.card == read_card(uri) == make_card()


def test_a_damaged_set_in_a_bucket_is_noticed(uri):
    content = bytearray(Location.at(uri).read_bytes())
    content[100] ^= 1
    Location.at(uri).write_bytes(bytes(content))
    with pytest.raises(CondensedSetError, match=rf"^{uri}: expected .*; copy or download the file"):
        idm_ray.load(uri)


def test_a_missing_set_in_a_bucket_is_named(uri):
    with pytest.raises(
        CondensedSetError, match=rf"expected a file or folder at {uri}2, found none"
    ):
        idm_ray.load(uri + "2")


def test_the_uri_of_a_run_stands_for_the_file_in_it(uri):
    loaded = idm_ray.load(uri.removesuffix("/condensed.parquet"))
    assert loaded.card == read_card(uri)


def test_a_store_that_fails_is_not_taken_for_a_damaged_set(uri, store):
    store.proxy.fail(503, methods="GET")
    with pytest.raises(StorageError, match="gave up after 3 tries"):
        idm_ray.load(uri)
