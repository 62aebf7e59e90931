"""Shards written by several processes, and condensed from by several."""

import numpy as np
import pytest
import ray

from idm_ray.config import DataConfig
from idm_ray.data.shard_parts import ShardSettings
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError
from idm_ray.progress import Advanced
from idm_ray.runtime.sharding import num_writers, write_in_parallel
from idm_ray.sharding import write_shards
from idm_ray.storage import Location
from tests.data.making import bytes_of, picture, png, write_parquet, write_tree
from tests.runtime.running import pixels_of


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("source") / "insects", train=30, test=9)


@pytest.fixture(scope="module")
def written(tree):
    write_shards(tree, out=tree.parent / "shards", local=True, shard_mb=0.005)
    return tree.parent / "shards"


def test_there_is_a_writer_for_each_cpu_of_the_cluster():
    assert num_writers() == 4


def test_several_writers_leave_the_bytes_of_one(tree, written, tmp_path):
    events = []
    write_shards(tree, out=tmp_path / "shards", shard_mb=0.005, listener=events.append)
    assert bytes_of(tmp_path / "shards") == bytes_of(written)
    assert [event.done for event in events if isinstance(event, Advanced)] == [1, 2, 3, 4]
    assert events[-1].info == "78 images"


def test_a_source_that_is_read_whole_is_shared_out_with_the_same_bytes(tmp_path):
    cells = [png(picture(number)) for number in range(40)]
    path = write_parquet(tmp_path / "insects.parquet", [0, 1, 2, 3, 4] * 8, images=cells)
    for name, local in (("one", True), ("four", False)):
        write_shards(path, out=tmp_path / name, local=local)
    assert bytes_of(tmp_path / "four") == bytes_of(tmp_path / "one")


def test_what_a_writer_refuses_reaches_the_user_and_leaves_no_writer(tree, tmp_path):
    root = write_tree(tmp_path / "insects", train=5)
    (root / "train" / "bee" / "1001.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read train/bee/1001\.png: not an image"):
        write_shards(root, out=tmp_path / "shards", strict=True)
    every_cpu = ray.remote(num_cpus=4)(lambda: "free")
    assert ray.get(every_cpu.remote(), timeout=60) == "free"
    picture(1001).save(root / "train" / "bee" / "1001.png")
    write_shards(root, out=tmp_path / "shards", overwrite=True)
    assert not list((tmp_path / "shards").rglob("*.tmp"))


def test_shards_and_tars_of_others_are_sources_with_the_same_bytes(written, tmp_path):
    names = ",".join(sorted(path.stem for path in (written / "train").iterdir()))
    for kind, source in {"own": written, "tars": f"{written}/train/{{{names}}}.tar"}.items():
        for name, local in (("one", True), ("four", False)):
            write_shards(source, out=tmp_path / kind / name, local=local, shard_mb=0.005)
        assert bytes_of(tmp_path / kind / "four") == bytes_of(tmp_path / kind / "one")
    assert bytes_of(tmp_path / "own" / "four") == bytes_of(written)


def test_what_refuses_a_writer_when_it_is_made_reaches_the_user(tree, tmp_path):
    source = find_source(DataConfig(data=str(tree), classes="ant"))
    settings = ShardSettings(size=None, shard_bytes=5000, limit_per_class=None, strict=False)
    jobs = [(("train", 0),)]
    target = Location.at(tmp_path)
    with pytest.raises(DataError, match=r"expected two or more classes, found 1"):
        counts = write_in_parallel(
            jobs, 1, places=[], source=source, settings=settings, target=target
        )
        list(counts)


@pytest.mark.parametrize("kept", [{}, {"cache": "none"}, {"cache_limit": "4kB"}], ids=str)
def test_actors_that_share_a_cache_give_the_images_of_one_process_from_folders(
    tree, written, tmp_path, kept
):
    options = {"classes_per_group": 1, "partition": 1, "cache_dir": str(tmp_path / "cache")}
    local = pixels_of(tmp_path / "local", data=str(tree), local=True, **options)
    layout = {"actors": 2, "gpus_per_actor": 0, "cpus_per_actor": 0.5}
    found = pixels_of(tmp_path / "ray", data=str(written), **options, **layout, **kept)
    assert np.isfinite(found).all()
    assert found.tobytes() == local.tobytes()
