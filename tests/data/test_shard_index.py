"""The index of a set: parsed class by class, by any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from idm_ray.data.shard_index import SCHEMA, ShardIndex, write_index
from idm_ray.errors import DataError
from tests.sending import sent

CLASSES, IMAGES = 300, 20


def rows(number, *, offset=0):
    keys = [f"{number}-{n}" for n in range(IMAGES)]
    values = (keys, [number] * IMAGES, [offset] * IMAGES, [1] * IMAGES, [b"x" * 16] * IMAGES)
    arrays = [pa.array(v, f.type) for v, f in zip(values, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


@pytest.fixture(scope="module")
def index():
    return ShardIndex(write_index(map(rows, range(CLASSES))), [IMAGES] * CLASSES, "here")


def test_threads_may_read_it_at_once(index):
    def right(number):
        numbers = index.members(number).shards
        return (numbers == number).all() and index.keys(number)[0].as_py() == f"{number}-0"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, np.arange(2 * CLASSES) % CLASSES))


def test_it_can_be_sent_to_another_process(index):
    assert sent(index).members(7).shards.tolist() == [7] * IMAGES


def test_a_missing_value_is_refused():
    holes = ShardIndex(write_index([rows(0, offset=None)]), [IMAGES], "index.parquet")
    with pytest.raises(DataError, match=r"found index\.parquet damaged: copy it again"):
        holes.members(0)
