import json
import multiprocessing
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from idm_ray.config import DataConfig
from idm_ray.data.cache import open_cache
from idm_ray.data.folder import FolderSource
from idm_ray.errors import DataError
from idm_ray.local_disk import list_files
from tests.data.making import images_of, opened, picture, write_tree


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "insects")


def entries(cache: Path) -> list[Path]:
    """The complete caches in a cache folder."""
    return sorted(path for path in cache.iterdir() if path.is_dir())


def times(cache: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*.*") if path.suffix != ".lock"}


def test_the_second_opening_decodes_nothing(root, tmp_path):
    cache = tmp_path / "cache"
    first = opened(root, cache)
    before = times(cache)
    second = opened(root, cache)
    assert len(before) == 3
    assert times(cache) == before
    assert first.info == second.info
    assert (images_of(first.train) == images_of(second.train)).all()


def test_a_cache_is_three_files_and_leaves_nothing_else(root, tmp_path):
    opened(root, tmp_path / "cache")
    (entry,) = entries(tmp_path / "cache")
    assert sorted(path.name for path in entry.iterdir()) == ["info.json", "test.npy", "train.npy"]


def test_every_option_that_changes_pixels_has_its_own_cache(root, tmp_path):
    cache = tmp_path / "cache"
    for options in ({}, {"size": 4}, {"limit_per_class": 1}, {"size": 4, "limit_per_class": 1}):
        opened(root, cache, **options)
    assert len(entries(cache)) == 4


def test_an_option_that_changes_nothing_shares_the_cache(root, tmp_path):
    opened(root, tmp_path / "cache", test_fraction=0.2)
    opened(root, tmp_path / "cache", test_fraction=0.5)
    assert len(entries(tmp_path / "cache")) == 1


def test_a_relative_path_shares_the_cache_of_the_absolute_one(root, tmp_path, monkeypatch):
    absolute = opened(root, tmp_path / "cache")
    monkeypatch.chdir(root.parent)
    relative = opened(Path(root.name), tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 1
    assert relative.info.source == "insects"
    assert relative.info.name == absolute.info.name


def test_changed_files_are_decoded_again(root, tmp_path):
    before = opened(root, tmp_path / "cache")
    picture(777).save(root / "train" / "ant" / "0000.png")
    after = opened(root, tmp_path / "cache")
    assert (images_of(after.train)[0] != images_of(before.train)[0]).any()
    assert (images_of(after.train)[1:] == images_of(before.train)[1:]).all()


def shorten(entry: Path) -> None:
    with (entry / "train.npy").open("r+b") as file:
        file.truncate(200)


def lengthen(entry: Path) -> None:
    with (entry / "train.npy").open("ab") as file:
        file.write(b"more")


def empty(entry: Path) -> None:
    (entry / "test.npy").write_bytes(b"")


def swap_type(entry: Path) -> None:
    np.save(entry / "test.npy", np.load(entry / "test.npy").astype(np.int16))


def put_an_archive(entry: Path) -> None:
    with (entry / "test.npy").open("wb") as file:
        np.savez(file, images=np.zeros(3))


def break_info(entry: Path) -> None:
    (entry / "info.json").write_text("{")


def lose_a_key(entry: Path) -> None:
    info = json.loads((entry / "info.json").read_text())
    del info["fingerprint"]
    (entry / "info.json").write_text(json.dumps(info))


def lose_the_marker(entry: Path) -> None:
    (entry / "info.json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        shorten,
        lengthen,
        empty,
        swap_type,
        put_an_archive,
        break_info,
        lose_a_key,
        lose_the_marker,
    ],
)
def test_a_damaged_cache_is_built_again(root, tmp_path, damage):
    before = opened(root, tmp_path / "cache")
    images = images_of(before.train)
    damage(entries(tmp_path / "cache")[0])
    after = opened(root, tmp_path / "cache")
    assert after.info == before.info
    assert (images_of(after.train) == images).all()


def test_a_pickle_in_the_cache_runs_nothing_and_the_cache_is_built_again(root, tmp_path):
    before = opened(root, tmp_path / "cache")
    images = images_of(before.test)
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    with (entries(tmp_path / "cache")[0] / "test.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # Whoever unpickles these lines calls os.mkdir on the folder they name.
        file.write(f"cos\nmkdir\n(S'{tmp_path / 'ran'}'\ntR.".encode())
    after = opened(root, tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
    assert after.info == before.info
    assert (images_of(after.test) == images).all()


def open_and_report(root, cache, barrier, results):
    barrier.wait()
    data = opened(root, cache)
    results.put((data.info.fingerprint, entries(cache)[0].stat().st_ino))


def test_processes_that_start_together_build_once(tmp_path):
    root = write_tree(tmp_path / "insects", train=150, test=50)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (root, tmp_path / "cache", barrier, results)
    workers = [context.Process(target=open_and_report, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert found[0] == found[1]
    assert len(entries(tmp_path / "cache")) == 1


class DyingSource(FolderSource):
    """Its process ends without a word in the middle of the test split."""

    def read(self, rows):
        images = list(super().read(rows))
        yield from images[:2]
        if len(images) == 4:
            os._exit(9)
        yield from images[2:]


def die_while_building(root, cache):
    source = DyingSource(root, list_files(root), 0.2)
    open_cache(source, DataConfig(cache_dir=str(cache)))


def test_a_killed_builder_leaves_nothing_that_is_taken_for_a_cache(root, tmp_path):
    cache = tmp_path / "cache"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=die_while_building, args=(root, cache))
    process.start()
    process.join()
    assert process.exitcode == 9
    (leftover,) = entries(cache)
    assert leftover.name.startswith(".")
    assert opened(root, cache).info.train_counts == (3, 3)
    assert leftover not in entries(cache)


def test_a_failed_build_leaves_nothing(root, tmp_path):
    picture(1, width=9).save(root / "train" / "ant" / "wide.png")
    with pytest.raises(DataError):
        opened(root, tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_a_cache_folder_that_cannot_be_made_is_refused(root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache folder to write to, found .*: Not a directory; .*"):
        opened(root, tmp_path / "file" / "cache")


def test_the_cache_is_in_the_users_cache_folder_by_default(root, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    opened(root, None)
    assert len(entries(tmp_path / "xdg" / "idm_ray")) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    opened(root, None)
    assert len(entries(tmp_path / "home" / ".cache" / "idm_ray")) == 1


def test_a_full_disk_is_an_error_and_not_a_killed_process(root, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match="or decode less with --size or --limit-per-class"):
            opened(root, tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert entries(tmp_path / "cache") == []
