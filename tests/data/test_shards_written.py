"""What `write_shards` leaves, and that killing it in between makes no difference."""

import hashlib
import io
import json
import multiprocessing
import os
import platform
import signal
import tarfile

import numpy as np
import pytest
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.data.manifest import Manifest
from idm_ray.data.shard_parts import ShardSettings
from idm_ray.data.shard_set import open_shards
from idm_ray.data.shard_target import (
    begin,
    check_sight,
    leave_token,
    refuse_overlap,
    sole_writer,
)
from idm_ray.data.shard_writer import ShardWriter
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError, StorageError, UserError
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


def begun(source, out, **options):
    """A writer whose set was begun: with small shards, or as `options` say."""
    plain = {"size": None, "shard_bytes": 5000, "limit_per_class": None, "strict": False}
    found = source if hasattr(source, "listing") else find_source(DataConfig(data=str(source)))
    target = Location.at(out)
    writer = ShardWriter(found, ShardSettings(**{**plain, **options}), target)
    begin(writer.plan(), target, overwrite=False)
    return writer


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
    writers = [begun(tree, tmp_path / "by hand") for _ in range(3)]
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
    writer = begun(path, tmp_path / "shards")
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


def test_an_image_that_is_gone_since_it_was_listed_ends_writing(tmp_path):
    root = write_tree(tmp_path / "insects", train=5)
    (root / "train" / "bee" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    writer = begun(root, tmp_path / "shards")
    (root / "train" / "ant" / "0001.png").unlink()
    with pytest.raises(DataError, match=r"cannot read train/ant/0001\.png \(No such file"):
        writer.write((("train", 0),))
    assert not list((tmp_path / "shards").rglob("*.tar"))
    # This one never was there: a bad image, not a bad disk.
    assert writer.write((("train", 1),)) == 5


def test_a_target_that_goes_on_failing_ends_writing(tree, tmp_path):
    writer = begun(tree, tmp_path)
    (tmp_path / "train").write_bytes(b"no folder")
    with pytest.raises(StorageError, match=r"cannot write to .*: mend its disk, or make room"):
        writer.write((("train", 0),))


def test_images_left_out_before_are_refused_if_strict_now(tree, tmp_path):
    root = write_tree(tmp_path / "insects", train=5)
    (root / "train" / "ant" / "0001.png").write_bytes(b"no image")
    writer = begun(root, tmp_path / "shards", shard_bytes=256_000_000)
    for job in writer.jobs(1):
        writer.write(job)
    with pytest.raises(DataError, match=r"only usable images, found 1 .*ant/0001\.png: not an im"):
        write_sharded(root, tmp_path / "shards", strict=True)
    write_sharded(root, tmp_path / "shards")
    # Shards of these shards are of the same images, and say so, too.
    for classes in (None, "bee,ant"):
        with pytest.raises(DataError, match=r"only usable images, found 1 .*ant/0001"):
            write_sharded(tmp_path / "shards", tmp_path / "strict", classes=classes, strict=True)
    assert not (tmp_path / "strict").exists()
    again = write_sharded(tmp_path / "shards", tmp_path / "again")
    assert bytes_of(again) == bytes_of(tmp_path / "shards")


def test_into_a_bucket_a_job_has_few_shards_open_of_a_source_that_is_read_whole(tmp_path, store):
    path = write_parquet(tmp_path / "many.parquet", [*range(50)] * 2, rows_per_group=100)
    writer = begun(path, f"{store.bucket}/shards", shard_bytes=400_000_000)
    # They lie in temporary files, of which a process may have 8 GB.
    assert [len(job) for job in writer.jobs(1)] == [20] * 5
    assert len(begun(path, tmp_path / "shards", shard_bytes=400_000_000).jobs(1)) == 1


# --- Going on ---


def test_writing_goes_on_with_the_classes_that_are_missing(tree, written, tmp_path):
    writer = begun(tree, tmp_path)
    # Whatever was finished first: parallel writers keep no order.
    writer.write((("test", 1),))
    assert writer.jobs(1) == [(("train", 0),), (("train", 1),), (("test", 0),)]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tar")}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / ".0000-ant-000.tar.0123abcd.tmp").write_bytes(b"half a shard")
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
    writer = begun(DyingSource(root), out)
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
    writer = begun(tree, tmp_path)
    for job in writer.jobs(1):
        writer.write(job)
    assert writer.jobs(1) == []
    write_sharded(tree, tmp_path, shard_mb=0.005)
    assert bytes_of(tmp_path) == bytes_of(written)


@pytest.mark.parametrize("change", [{"size": 4}, {"limit_per_class": 1}, {"classes": "bee,ant"}])
def test_other_settings_in_a_folder_that_was_begun_are_refused(tree, tmp_path, change):
    begun(tree, tmp_path, shard_bytes=256_000_000)
    with pytest.raises(UserError, match=r"the same source and settings .* add --overwrite"):
        write_sharded(tree, tmp_path, **change)
    write_sharded(tree, tmp_path, **change, overwrite=True)
    assert not (tmp_path / ".parts").exists()


def test_another_source_in_a_folder_that_was_begun_is_refused(tree, tmp_path):
    begun(tree, tmp_path / "shards", shard_bytes=256_000_000)
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


def test_overwriting_removes_what_was_begun_with_a_class_that_was_half_written(tree, tmp_path):
    begun(tree, tmp_path).write((("train", 0),))
    half = tmp_path / "train" / "0001-bee-007.tar"
    half.write_bytes(b"of a class without its part")
    write_sharded(tree, tmp_path, overwrite=True)
    assert not half.exists()
    assert len(manifest_of(tmp_path).shards) == len(list(tmp_path.rglob("*.tar"))) == 4


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("place", ["photos.tar", "train/0000-ant-000.tar", "test/more.tar"])
def test_tar_files_of_others_are_refused_before_anything_is_written(
    tree, tmp_path, place, overwrite
):
    out = tmp_path / "shards"
    (out / place).parent.mkdir(parents=True)
    (out / place).write_bytes(b"of the user")
    with pytest.raises(UserError, match=rf"no tar files in .* found '{place}': move them"):
        write_sharded(tree, out, overwrite=overwrite)
    assert bytes_of(out) == {place: b"of the user"}


def test_overwriting_leaves_a_folder_alone_whose_manifest_is_not_ours(tree, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json to say which files .* by hand"):
        write_sharded(tree, tmp_path, overwrite=True)
    assert set(bytes_of(tmp_path)) == {"manifest.json"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("out", ["insects", "insects/train/shards", ".", "link/shards"])
def test_a_target_in_or_around_the_source_is_refused(tmp_path, out, overwrite):
    root = write_tree(tmp_path / "insects")
    (tmp_path / "link").symlink_to(root)
    before = bytes_of(tmp_path)
    with pytest.raises(UserError, match=r"expected --out apart from the source, found .*insects"):
        write_sharded(root, tmp_path / out, overwrite=overwrite)
    assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("name", ["few.parquet", "{0..1}.tar"])
def test_beside_a_file_a_new_folder_is_fine_but_not_the_file_s_own(tmp_path, name):
    import webdataset  # noqa: PLC0415 -- brings torch along, which a process started here lacks

    write_parquet(tmp_path / "in" / "few.parquet", [0, 1] * 4)
    for number in range(2):
        with webdataset.TarWriter(str(tmp_path / "in" / f"{number}.tar")) as tar:
            for label in range(2):
                for key in range(2):
                    image = png(picture(4 * number + 2 * label + key))
                    tar.write({"__key__": f"{label}{key}", "png": image, "cls": label})
    for out in ("in", "."):
        with pytest.raises(UserError, match="expected --out apart from the source"):
            write_sharded(tmp_path / "in" / name, tmp_path / out)
    write_sharded(tmp_path / "in" / name, tmp_path / "in" / "shards")


def test_a_target_in_a_bucket_is_compared_by_bucket_and_path(store):
    source = Location.at(f"{store.bucket}/shards")
    (source / "manifest.json").write_bytes(b"")
    for out in ("/shards", "/shards/new", ""):
        for address in (store.bucket, store.bucket.replace("://", "://key:secret@")):
            with pytest.raises(UserError, match="expected --out apart from the source"):
                refuse_overlap([source], Location.at(address + out))
    refuse_overlap([source], Location.at(f"{store.bucket}/shards-new"))


def test_a_second_command_on_the_same_folder_is_refused_at_once(tree, written, tmp_path):
    refused = pytest.raises(UserError, match=r"no other command that writes to .*, found one")
    with sole_writer(Location.at(tmp_path)), refused:
        write_sharded(tree, tmp_path)
    assert not list(tmp_path.iterdir())
    assert bytes_of(write_sharded(tree, tmp_path, shard_mb=0.005)) == bytes_of(written)


@pytest.mark.parametrize("hidden", ["source", "target"])
def test_a_node_that_sees_other_files_is_named(tree, tmp_path, hidden):
    target = Location.at(tmp_path / "shards")
    (tmp_path / "shards" / ".parts").mkdir(parents=True)
    places = [Location.at(tree)] if hidden == "target" else [Location.at(tmp_path / "gone")]
    token = leave_token(target) if hidden == "source" else "of another folder"
    path = target if hidden == "target" else places[0]
    line = rf"expected the .*{path} on every node .* on node {platform.node()}: use paths"
    with pytest.raises(DataError, match=line):
        check_sight(token, places, target)


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
