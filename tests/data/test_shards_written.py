"""What `write_shards` leaves, and that killing it in between makes no difference."""

import hashlib
import io
import json
import multiprocessing
import os
import signal
import tarfile

import numpy as np
import pytest
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.data.manifest import Manifest
from idm_ray.data.shard_parts import ShardSettings, begin
from idm_ray.data.shard_set import open_shards
from idm_ray.data.shard_writer import ShardWriter
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError, UserError
from idm_ray.storage import Location
from tests.data.making import (
    bytes_of,
    images_of,
    jpeg,
    opened,
    picture,
    png,
    write_class,
    write_parquet,
    write_sharded,
    write_tree,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("source") / "insects", train=5)


@pytest.fixture(scope="module")
def written(tree):
    return write_sharded(tree, tree.parent / "shards", shard_mb=0.005)


def members_of(path):
    """Names and bytes of the members of a tar, in their order."""
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def manifest_of(folder):
    return Manifest.from_json((folder / "manifest.json").read_bytes(), str(folder))


def test_every_shard_holds_one_class_of_one_split_in_order_as_it_was_encoded(tree, written):
    for split, folder in (("train", "train"), ("test", "val")):
        for label, name in enumerate(("ant", "bee")):
            shards = sorted((written / split).glob(f"{label:04d}-{name}-*.tar"))
            members = [member for shard in shards for member in members_of(shard)]
            images = [content for path, content in members if path.endswith(".png")]
            files = sorted((tree / folder / name).iterdir())
            assert images == [file.read_bytes() for file in files]
            labels = [content for path, content in members if path.endswith(".cls")]
            assert labels == [str(label).encode()] * len(files)
            assert len(members) == 2 * len(files)


def test_the_manifest_says_what_is_there(tree, written):
    manifest = manifest_of(written)
    assert (manifest.name, manifest.known_as) == ("insects", None)
    assert manifest.class_names == ("ant", "bee")
    assert [record.images for record in manifest.train] == [5, 5]
    assert [record.images for record in manifest.test] == [2, 2]
    assert (manifest.skipped, manifest.problems) == (0, ())
    ants = [file.read_bytes() for file in sorted((tree / "train" / "ant").iterdir())]
    assert manifest.train[0].encoded_bytes == sum(map(len, ants))
    assert (manifest.train[0].channels, manifest.train[0].sides) == (3, (8, 8))
    for file in (*manifest.shards, manifest.index):
        content = (written / file.path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)


def test_nothing_else_is_left(written):
    listed = {file.path for file in manifest_of(written).shards}
    assert set(bytes_of(written)) == {*listed, "manifest.json", "index.parquet"}


def test_a_shard_ends_before_it_grows_beyond_its_size(tree, written, tmp_path):
    sizes = [shard.size for shard in manifest_of(written).shards]
    assert len(sizes) > 4
    # All but the tar's own end, which is padded to 10 KiB.
    assert max(sizes) <= 10 * 1024
    whole = manifest_of(write_sharded(tree, tmp_path / "whole"))
    assert len(whole.shards) == 4
    one = manifest_of(write_sharded(tree, tmp_path / "one", shard_mb=1e-6))
    assert len(one.shards) == 14
    assert [r.digest for r in one.train] == [r.digest for r in whole.train]


def test_shards_written_again_or_by_other_hands_are_the_same_bytes(tree, written, tmp_path):
    again = write_sharded(tree, tmp_path / "again", shard_mb=0.005)
    assert bytes_of(again) == bytes_of(written)
    source = find_source(DataConfig(data=str(tree)))
    target = Location.at(tmp_path / "by hand")
    settings = ShardSettings(size=None, shard_bytes=5000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    writers = [ShardWriter(source, settings, target) for _ in range(3)]
    for number, job in enumerate(reversed(writers[0].jobs(3))):
        writers[number % 3].write(job)
    write_sharded(tree, tmp_path / "by hand", shard_mb=0.005)
    assert bytes_of(tmp_path / "by hand") == bytes_of(written)


def test_the_webdataset_library_reads_them_alone(tree, written):
    import webdataset  # noqa: PLC0415 -- brings torch along, which a process started here lacks

    urls = [str(path) for path in sorted((written / "train").iterdir())]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["cls"] for sample in samples] == [0] * 5 + [1] * 5
    files = [file for name in ("ant", "bee") for file in sorted((tree / "train" / name).iterdir())]
    for sample, file in zip(samples, files, strict=True):
        assert np.array_equal(sample["png"], np.asarray(Image.open(file)))
    assert len({sample["__key__"] for sample in samples}) == 10


def test_every_format_keeps_its_ending(tmp_path):
    for name in ("ant", "bee"):
        folder = tmp_path / "mixed" / name
        folder.mkdir(parents=True)
        for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("bmp", "BMP")):
            # The name of a file says nothing: this one ends otherwise.
            picture(1).save(folder / f"{suffix}.JPEG", kind)
    out = write_sharded(tmp_path / "mixed", tmp_path / "shards")
    shards = [path for path in (out / "train").iterdir() if "ant" in path.name]
    suffixes = {path.rpartition(".")[2] for shard in shards for path, _ in members_of(shard)}
    assert suffixes <= {"cls", "jpg", "png", "webp", "bmp"}
    assert len(suffixes) == 4


def test_size_crops_and_resizes_and_keeps_what_has_the_size_already(tmp_path):
    for number, name in enumerate(("ant", "bee")):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for side in (16, 20, 40):
            image = picture(number, width=side, height=16)
            (folder / f"{side}.jpg").write_bytes(jpeg(image))
        picture(number, width=16, height=30).save(folder / "9.png")
    out = write_sharded(tmp_path / "photos", tmp_path / "shards", size=16, test_fraction=0.1)
    contents = [
        content
        for shard in sorted(out.rglob("*ant*.tar"))
        for path, content in members_of(shard)
        if not path.endswith(".cls")
    ]
    images = [Image.open(io.BytesIO(content)) for content in contents]
    assert [image.size for image in images] == [(16, 16)] * 4
    assert sorted(image.format for image in images) == ["JPEG", "JPEG", "JPEG", "PNG"]
    assert (tmp_path / "photos" / "ant" / "16.jpg").read_bytes() in contents
    assert manifest_of(out).train[0].sides == (16, 16)


def test_classes_come_in_the_order_given(tmp_path):
    for name in ("ant", "bee", "cat"):
        write_class(tmp_path / "zoo" / name, 4, first=ord(name[0]) * 100)
    out = write_sharded(tmp_path / "zoo", tmp_path / "shards", classes="cat,ant")
    manifest = manifest_of(out)
    assert manifest.class_names == ("cat", "ant")
    files = sorted(path.name for path in (out / "train").iterdir())
    assert files == ["0000-cat-000.tar", "0001-ant-000.tar"]


def test_a_limit_takes_the_same_images_as_without_shards(tree, tmp_path):
    out = write_sharded(tree, tmp_path / "shards", limit_per_class=2)
    plain = opened(tree, tmp_path / "cache", limit_per_class=2)
    sharded = opened(out, tmp_path / "cache")
    assert sharded.info.train_counts == (2, 2)
    assert sharded.info.test_counts == (2, 2)
    assert np.array_equal(images_of(sharded.train), images_of(plain.train))


def test_parquet_gives_the_shards_of_the_same_images_in_folders(tmp_path):
    # The rows of a file are read from its beginning for any class; a folder's files are not.
    labels = [1, 0, 1, 0, 0, 1, 0, 1]
    cells = [png(picture(number)) for number in range(8)]
    for split in ("train", "test"):
        write_parquet(
            tmp_path / "parquet" / "insects" / f"{split}.parquet",
            labels,
            class_names=("ant", "bee"),
            images=cells,
        )
        for number, (label, cell) in enumerate(zip(labels, cells, strict=True)):
            folder = tmp_path / "folders" / "insects" / split / ("ant", "bee")[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.png").write_bytes(cell)
    parts = [
        bytes_of(write_sharded(tmp_path / kind / "insects", tmp_path / f"{kind}-shards"))
        for kind in ("parquet", "folders")
    ]
    assert parts[0] == parts[1]


def test_a_source_that_is_read_whole_is_gone_through_once_by_each_writer(tmp_path):
    path = write_parquet(tmp_path / "many.parquet", [*range(300)] * 2, rows_per_group=600)
    source = find_source(DataConfig(data=str(path)))
    target = Location.at(tmp_path / "shards")
    settings = ShardSettings(size=None, shard_bytes=10**6, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    writer = ShardWriter(source, settings, target)
    for num_writers in (1, 3, 8):
        jobs = writer.jobs(num_writers)
        # A job's shards are open at once, and a process may open a thousand files or so.
        assert max(map(len, jobs)) <= 256
        assert len(jobs) == max(num_writers, 3)
        assert len({one for job in jobs for one in job}) == 600


def test_shards_are_a_source_of_shards(tree, written, tmp_path):
    again = write_sharded(written, tmp_path / "again", shard_mb=0.005)
    assert bytes_of(again) == bytes_of(written)


@pytest.mark.parametrize("names", [("../../up", "/abs"), ("a b\tc", "a-b-c"), ("日本", "été .")])
def test_class_names_with_odd_characters_make_plain_paths_that_do_not_collide(tmp_path, names):
    path = write_parquet(tmp_path / "odd.parquet", [0, 1] * 4, class_names=names)
    out = write_sharded(path, tmp_path / "out" / "shards")
    manifest = manifest_of(out)
    assert manifest.class_names == names
    paths = [shard.path for shard in manifest.shards]
    assert len(set(paths)) == 4
    assert all(path.isascii() and path.count("/") == 1 and " " not in path for path in paths)
    assert {path.name for path in tmp_path.iterdir()} == {"odd.parquet", "out"}
    assert opened(out, tmp_path / "cache").info.class_names == names


def test_long_class_names_that_begin_alike_do_not_collide(tmp_path):
    names = ("x" * 200 + "1", "x" * 200 + "2")
    path = write_parquet(tmp_path / "long.parquet", [0, 1] * 4, class_names=names)
    assert opened(write_sharded(path, tmp_path / "shards"), tmp_path).info.class_names == names


def test_an_unreadable_image_is_left_out_with_a_count_and_refused_if_strict(tmp_path):
    root = write_tree(tmp_path / "insects", train=8)
    (root / "train" / "ant" / "0001.png").write_bytes(b"no image")
    for number in (3, 5, 7, 6, 4, 2):
        (root / "train" / "bee" / f"{1000 + number:04d}.png").write_bytes(b"\x89PNG")
    manifest = manifest_of(write_sharded(root, tmp_path / "shards"))
    assert [record.images for record in manifest.train] == [7, 2]
    assert manifest.skipped == 7
    assert len(manifest.problems) == 5
    assert manifest.problems[0] == "cannot read train/ant/0001.png: not an image"
    data = opened(tmp_path / "shards", tmp_path / "cache")
    assert (data.info.skipped, data.info.unreadable) == (7, manifest.problems)
    with pytest.raises(DataError, match=r"cannot read train/ant/0001\.png: not an image"):
        write_sharded(root, tmp_path / "strict", strict=True)
    assert not list((tmp_path / "strict").rglob("*.tar"))
    with pytest.raises(DataError, match="expected only usable images, found 7 that are not"):
        opened(tmp_path / "shards", tmp_path / "cache", strict=True)


def test_a_class_of_which_no_image_can_be_read_is_refused(tmp_path):
    root = write_tree(tmp_path / "insects", train=2)
    for path in (root / "train" / "ant").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"found none of class 'ant'.*cannot read train/ant/0000"):
        write_sharded(root, tmp_path / "shards")
    assert not (tmp_path / "shards" / "manifest.json").exists()


# --- Going on ---


def test_writing_goes_on_with_the_classes_that_are_missing(tree, written, tmp_path):
    target = Location.at(tmp_path)
    source = find_source(DataConfig(data=str(tree)))
    settings = ShardSettings(size=None, shard_bytes=5000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    writer = ShardWriter(source, settings, target)
    # Whatever was finished first: parallel writers keep no order.
    writer.write((("test", 1),))
    assert writer.jobs(1) == [(("train", 0),), (("train", 1),), (("test", 0),)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".0000-ant-000.tar.0123abcd.tmp").write_bytes(b"half a shard")
    begin(source, settings, target, overwrite=False)
    write_sharded(tree, tmp_path, shard_mb=0.005)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert bytes_of(tmp_path) == bytes_of(written)


class DyingSource:
    """The images of a folder; its process is killed when half of the bees are read."""

    is_random_access = True

    def __init__(self, root):
        self._source = find_source(DataConfig(data=str(root)))

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, rows):
        for number, image in enumerate(self._source.read(rows)):
            if number == 2 and "train/bee" in image.name:
                os.kill(os.getpid(), signal.SIGKILL)
            yield image


def die_while_writing(root, out):
    source, target = DyingSource(root), Location.at(out)
    settings = ShardSettings(size=None, shard_bytes=5000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    writer = ShardWriter(source, settings, target)
    for job in writer.jobs(1):
        writer.write(job)


def test_a_writer_that_is_killed_and_started_again_leaves_the_same_bytes(tree, written, tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=die_while_writing, args=(tree, tmp_path / "shards")
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = bytes_of(tmp_path / "shards")
    assert any(path.endswith(".tmp") for path in left)
    assert not any("bee" in path for path in left if path.endswith(".tar"))
    with pytest.raises(DataError, match=r"shards.*not finished.*idm-ray shards"):
        opened(tmp_path / "shards", tmp_path / "cache")
    again = write_sharded(tree, tmp_path / "shards", shard_mb=0.005)
    assert bytes_of(again) == bytes_of(written)


def test_what_was_killed_before_its_manifest_needs_no_image_any_more(tree, written, tmp_path):
    source, target = find_source(DataConfig(data=str(tree))), Location.at(tmp_path)
    settings = ShardSettings(size=None, shard_bytes=5000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    writer = ShardWriter(source, settings, target)
    for job in writer.jobs(1):
        writer.write(job)
    assert writer.jobs(1) == []
    write_sharded(tree, tmp_path, shard_mb=0.005)
    assert bytes_of(tmp_path) == bytes_of(written)


@pytest.mark.parametrize("change", [{"size": 4}, {"limit_per_class": 1}, {"classes": "bee,ant"}])
def test_other_settings_in_a_folder_that_was_begun_are_refused(tree, tmp_path, change):
    source, target = find_source(DataConfig(data=str(tree))), Location.at(tmp_path)
    settings = ShardSettings(size=None, shard_bytes=256_000_000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    with pytest.raises(UserError, match=r"the same source and settings .* add --overwrite"):
        write_sharded(tree, tmp_path, **change)
    write_sharded(tree, tmp_path, **change, overwrite=True)
    assert not (tmp_path / ".parts").exists()


def test_another_source_in_a_folder_that_was_begun_is_refused(tree, tmp_path):
    source, target = find_source(DataConfig(data=str(tree))), Location.at(tmp_path / "shards")
    settings = ShardSettings(size=None, shard_bytes=256_000_000, limit_per_class=None, strict=False)
    begin(source, settings, target, overwrite=False)
    other = write_tree(tmp_path / "other")
    with pytest.raises(UserError, match=r"the same source and settings .* found others"):
        write_sharded(other, tmp_path / "shards")


def test_finished_shards_are_refused_or_replaced(tree, tmp_path):
    out = write_sharded(tree, tmp_path / "shards", shard_mb=0.005)
    (out / "train" / "notes.txt").write_text("of the user")
    with pytest.raises(UserError, match=r"expected a new folder, found shards in .*--overwrite"):
        write_sharded(tree, out)
    write_sharded(tree, out, overwrite=True)
    assert len(manifest_of(out).shards) == len(list(out.rglob("*.tar"))) == 4
    assert (out / "train" / "notes.txt").exists()
    open_shards(Location.at(out))


def test_overwriting_where_nothing_is_is_writing(tree, written, tmp_path):
    out = write_sharded(tree, tmp_path / "new", shard_mb=0.005, overwrite=True)
    assert bytes_of(out) == bytes_of(written)


def test_a_folder_that_cannot_be_written_to_is_refused(tree, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"folder to write to at .*file/shards, found: Not a dir.*--out"
    ):
        write_sharded(tree, tmp_path / "file" / "shards")


def test_the_manifest_is_plain_json(written):
    values = json.loads((written / "manifest.json").read_text())
    assert values["format"] == "idm_ray shards 1"
    assert values["train"][1]["images"] == 5
