"""Tar files of strangers: indexed once, then used like shards of our own; nothing is trusted."""

import errno
import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idm_ray.config import DataConfig
from idm_ray.data import foreign, foreign_index, foreign_scan
from idm_ray.data.dataset import open_dataset
from idm_ray.data.foreign import is_foreign
from idm_ray.data.sources import source_bytes
from idm_ray.errors import DataError
from idm_ray.local_disk import LocalDisk
from idm_ray.storage import Location
from tests.data.making import images_of, jpeg, opened, picture, png, write_sharded


def member(name, content=b"", **values):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in values.items():
        setattr(info, field, value)
    return info, content


def write_tar(path, *members, form=tarfile.GNU_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number, label, *, suffix="png"):
    content = jpeg(picture(number)) if suffix.lower() in ("jpg", "jpeg") else png(picture(number))
    return member(f"{number:05d}.{suffix}", content), member(f"{number:05d}.cls", label.encode())


def samples(labels, first=0):
    pairs = (sample(first + n, label) for n, label in enumerate(labels))
    return [one for pair in pairs for one in pair]


USUAL = ["ant", "bee", "ant", "bee", "bee", "ant"]


def mixed(folder, *more, labels=USUAL):
    """A shard of mixed classes, with more members behind."""
    return write_tar(folder / "mixed.tar", *samples(labels), *more)


def pixels(*numbers):
    return np.stack([np.asarray(picture(n)).transpose(2, 0, 1) for n in numbers])


def all_images(data):
    """Every image of both splits, as a set."""
    return {image.tobytes() for split in (data.train, data.test) for image in images_of(split)}


def encoded(*numbers):
    return {image.tobytes() for image in pixels(*numbers)}


def refusal(path, cache, **options):
    with pytest.raises(DataError) as raised:
        opened(path, cache, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- What they mean ---


def test_mixed_classes_are_sorted_and_the_same_share_of_each_is_held_out(tmp_path):
    for shard in range(3):
        names = ["ant", "bee", "bee", "ant", "ant", "bee", "ant"]
        write_tar(tmp_path / "data" / f"{shard:03d}.tar", *samples(names, first=10 * shard))
    data = opened(tmp_path / "data" / "{000..002}.tar", tmp_path / "cache", test_fraction=0.25)
    assert (data.info.name, data.info.class_names) == ("data", ("ant", "bee"))
    assert (data.info.train_counts, data.info.test_counts) == ((9, 7), (3, 2))
    ants = [10 * shard + n for shard in range(3) for n in (0, 3, 4, 6)]
    found = [images_of(split, split.class_rows(0)) for split in (data.train, data.test)]
    assert {image.tobytes() for part in found for image in part} == encoded(*ants)
    order = [ants.index(n) for n in ants if picture_is_in(found[0], n)]
    assert order == sorted(order)
    assert np.array_equal(found[0], pixels(*[ants[n] for n in order]))


def picture_is_in(images, number):
    return any((image == pixels(number)[0]).all() for image in images)


def test_numbers_are_labels_in_the_order_of_numbers(tmp_path):
    mixed(tmp_path, labels=["10", "9", "2", "9", "2", "10"])
    assert opened(tmp_path / "mixed.tar", tmp_path / "cache").info.class_names == ("2", "9", "10")


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "jpeg", "PNG", "rgb.png"])
def test_suffixes_count_whatever_their_case(tmp_path, suffix):
    pairs = [one for n in range(4) for one in sample(n, USUAL[n], suffix=suffix)]
    write_tar(tmp_path / "a.tar", *pairs)
    assert len(all_images(opened(tmp_path / "a.tar", tmp_path / "cache"))) == 4


@pytest.mark.parametrize(
    "label", ['{"label": 3}', '{"id": 7, "class": "3"}', '{"cls": "3", "target": "x"}']
)
def test_labels_may_be_in_json(tmp_path, label):
    pairs = [
        one
        for n in range(6)
        for one in (
            member(f"{n}.json", (label if n % 2 else '{"label": "dog"}').encode()),
            member(f"{n}.png", png(picture(n))),
        )
    ]
    write_tar(tmp_path / "a.tar", *pairs)
    assert opened(tmp_path / "a.tar", tmp_path / "cache").info.class_names == ("3", "dog")


def test_cls_comes_before_json_and_the_first_image_before_others(tmp_path):
    pairs = [
        one
        for n in range(4)
        for one in (
            member(f"{n}.json", b'{"label": "no"}'),
            member(f"{n}.input.png", png(picture(n))),
            member(f"{n}.cls", USUAL[n].encode() + b"\n"),
            member(f"{n}.target.png", png(picture(50 + n))),
        )
    ]
    write_tar(tmp_path / "a.tar", *pairs)
    data = opened(tmp_path / "a.tar", tmp_path / "cache")
    assert data.info.class_names == ("ant", "bee")
    assert all_images(data) == encoded(0, 1, 2, 3)


def test_a_plain_suffix_is_the_image_wherever_it_comes(tmp_path):
    # A map of depths or a mask beside an image has a suffix with a further dot.
    dotted = [
        (member(f"{n}.depth.png", png(picture(50 + n))), member(f"{n}.mask.png", b"no image"))
        for n in range(4)
    ]
    plain = [member(f"{n}.png", png(picture(n))) for n in range(4)]
    labels = [member(f"{n}.cls", USUAL[n].encode()) for n in range(4)]
    members = [
        one
        for n in range(4)
        for one in ([*dotted[n], plain[n]] if n % 2 else [plain[n], *dotted[n]]) + [labels[n]]
    ]
    data = opened(write_tar(tmp_path / "a.tar", *members), tmp_path / "cache")
    assert (all_images(data), data.info.skipped) == (encoded(0, 1, 2, 3), 0)


def test_equal_numbers_have_an_order_of_their_own(tmp_path):
    mixed(tmp_path, labels=["1", "01", "1", "001", "01", "001"])
    names = opened(tmp_path / "mixed.tar", tmp_path / "cache").info.class_names
    assert names == ("001", "01", "1")


def test_folders_inside_and_tar_dialects_make_no_difference(tmp_path):
    found = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "x" * (60 if form == tarfile.USTAR_FORMAT else 180)
        moved = [
            (member(f"./some/{name}/{info.name}", content)) for info, content in samples(USUAL)
        ]
        path = write_tar(tmp_path / f"{form}.tar", member("some", type=tarfile.DIRTYPE), *moved)
        data = opened(path, tmp_path / "cache")
        assert data.info.skipped == 0
        found.append(all_images(data))
    assert found == [encoded(*range(6))] * 3


def test_they_are_indexed_once(tmp_path, monkeypatch):
    path = mixed(tmp_path)
    first = opened(path, tmp_path / "cache").info
    monkeypatch.setattr(foreign, "index_shards", None)
    second = opened(path, tmp_path / "cache")
    assert second.info == first
    assert all_images(second) == encoded(*range(6))
    monkeypatch.undo()
    assert opened(path, tmp_path / "cache", test_fraction=0.4).info.test_counts == (1, 1)


def test_indexing_goes_on_after_a_kill_and_leaves_no_parts(tmp_path, monkeypatch, caplog):
    paths = [write_tar(tmp_path / f"{n}.tar", *samples(USUAL, first=10 * n)) for n in range(3)]
    whole = paths[2].read_bytes()
    cut(paths[2], 5000)
    written, cache = tmp_path / "{0..2}.tar", tmp_path / "cache"
    refusal(written, cache)
    (folder,) = (path for path in (cache / "index").iterdir() if path.is_dir())
    assert {path.name for path in folder.iterdir()} == {
        "shard-00000.parquet",
        "shard-00001.parquet",
    }
    paths[2].write_bytes(whole)
    # The third is another file now: as if it had been whole, and indexing killed before it.
    (folder / "shard-00001.parquet").write_bytes(b"half of one")
    monkeypatch.setattr(foreign, "_key", lambda *arguments: folder.name)
    scanned = []
    scan = foreign_index.scan
    monkeypatch.setattr(
        foreign_index, "scan", lambda shard, size: scanned.append(shard.name) or scan(shard, size)
    )
    with caplog.at_level("INFO"):
        data = opened(written, cache)
    assert sorted(scanned) == ["1.tar", "2.tar"]
    assert all_images(data) == encoded(*(10 * n + k for n in range(3) for k in range(6)))
    assert {path.name for path in folder.iterdir()} == {"index.parquet", "manifest.json"}
    assert f"indexing 3 shards, from {paths[0]} on, in {folder}" in caplog.text
    assert "indexed 3 of 3 shards" in caplog.text


def test_indexing_in_parts_makes_the_same_as_indexing_at_once(tmp_path):
    together = write_tar(tmp_path / "one" / "a.tar", *samples(USUAL * 3))
    for n in range(3):
        write_tar(tmp_path / "three" / f"{n}.tar", *samples(USUAL, first=6 * n))
    one = opened(together, tmp_path / "cache")
    three = opened(tmp_path / "three" / "{0..2}.tar", tmp_path / "cache")
    assert three.info.fingerprint == one.info.fingerprint
    assert (three.info.mean, three.info.std) == (one.info.mean, one.info.std)
    assert np.array_equal(images_of(three.train), images_of(one.train))


def test_an_index_takes_little_memory_per_image(tmp_path):
    count, shards = 20_000, 4
    table = pa.table(
        {
            "key": [f"train/{n:08d}" for n in range(count)],
            "label": [f"n{n % 50:08d}" for n in range(count)],
            "offset": np.arange(count) * 10_000,
            "length": np.full(count, 9_000),
            "digest": pa.array(np.random.default_rng(0).bytes(16) for _ in range(count)),
            "channels": np.full(count, 3),
            "height": np.full(count, 8),
            "width": np.full(count, 8),
            "sums": [[64 * 9, 64 * 8, 64 * 7, 64 * 90, 64 * 80, 64 * 70]] * count,
        }
    ).cast(foreign_scan.IMAGES)
    about = {"about": '{"skipped": 0, "problems": []}'}
    for n in range(shards):
        file = tmp_path / f"shard-{n:05d}.parquet"
        pq.write_table(table.replace_schema_metadata(about), file)
    places = [Location.at(tmp_path / f"{n}.tar") for n in range(shards)]
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    foreign_index.index_shards(places, [10**9] * shards, 0.1, tmp_path)
    peak = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    tracemalloc.stop()
    pa.set_memory_pool(before)
    assert peak < 150 * count * shards


def test_no_cache_keeps_no_index(tmp_path):
    path = mixed(tmp_path / "data")
    code = (
        "import sys, tempfile; from pathlib import Path; from idm_ray.config import DataConfig; "
        "from idm_ray.data.foreign import open_foreign; "
        "config = DataConfig(data=sys.argv[1], cache='none'); "
        "open_foreign(config); open_foreign(config).members('train', 0); "
        "print(len(list(Path(tempfile.gettempdir()).rglob('manifest.json'))))"
    )
    places = {"TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, list((tmp_path / "tmp").iterdir())) == ("1\n", [])
    assert not (tmp_path / "cache").exists()


def test_options_hold_for_them_as_for_others(tmp_path):
    path = mixed(tmp_path)
    data = opened(path, tmp_path / "cache", classes="bee,ant", limit_per_class=1, size=4)
    assert (data.info.class_names, data.info.train_counts) == (("bee", "ant"), (1, 1))
    assert data.info.image_shape == (3, 4, 4)
    assert source_bytes(DataConfig(data=str(path), cache_dir=str(tmp_path / "cache"))) == (
        path.stat().st_size
    )


def test_shards_of_our_own_can_be_written_of_them(tmp_path):
    path = mixed(tmp_path)
    out = write_sharded(path, tmp_path / "shards", cache_dir=str(tmp_path / "cache"))
    own, other = (opened(place, tmp_path / "cache") for place in (out, path))
    assert own.info.train_counts == other.info.train_counts
    assert np.array_equal(images_of(own.train), images_of(other.train))
    assert np.array_equal(images_of(own.test), images_of(other.test))


@pytest.mark.parametrize(
    ("written", "is_one"),
    [
        ("a/{000..099}.tar", True),
        ("s3://bucket/a.tar?region=x", True),
        ("a.tar.gz", True),
        ("a.tgz", True),
        ("ILSVRC2012_img_train.tar", False),
        ("tar", False),
        ("a.tar/b", False),
        ("digits", False),
    ],
)
def test_tar_files_are_known_by_their_names(written, is_one):
    assert is_foreign(written) is is_one


# --- What is wrong with them ---


def cut(path, count):
    with path.open("r+b") as file:
        file.truncate(count)


def boundaries(path):
    """Where members begin, and where the first block of the end is."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        return [m.offset for m in members], tar.offset


@pytest.mark.parametrize("where", ["0.2 of it", "0.9 of it", "in a header", "in an image"])
def test_a_tar_that_was_cut_short_is_refused(tmp_path, where):
    path = mixed(tmp_path)
    offsets, end = boundaries(path)
    place = {
        "0.2 of it": end // 5,
        "0.9 of it": 9 * end // 10,
        "in a header": offsets[6] + 100,
        "in an image": offsets[6] + 512 + 10,
    }[where]
    cut(path, place)
    told = refusal(path, tmp_path / "cache")
    assert "expected a whole tar, found" in told
    assert "mixed.tar truncated or damaged (" in told
    assert "its last whole member is '0" in told
    assert told.endswith("copy or download it again")


@pytest.mark.parametrize("number", [1, 4, 6, 11])
def test_a_tar_that_was_cut_exactly_between_two_members_is_refused(tmp_path, number):
    path = mixed(tmp_path)
    cut(path, boundaries(path)[0][number])
    assert "mixed.tar truncated or damaged" in refusal(path, tmp_path / "cache")


def test_a_tar_without_its_end_is_refused_and_one_block_of_end_will_do(tmp_path):
    path = mixed(tmp_path)
    end = boundaries(path)[1]
    cut(path, end + 512)
    assert len(all_images(opened(path, tmp_path / "cache"))) == 6
    cut(path, end)
    assert "(no header and no end where one must be)" in refusal(path, tmp_path / "cache")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.tar").touch()
    assert "found none" in refusal(tmp_path / "a.tar", tmp_path)


@pytest.mark.parametrize("byte", [0, 120, 150])
def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, byte):
    path = mixed(tmp_path)
    content = bytearray(path.read_bytes())
    content[boundaries(path)[0][6] + byte] ^= 0x15
    path.write_bytes(content)
    told = refusal(path, tmp_path / "cache")
    assert "truncated or damaged (no header and no end where one must be)" in told
    assert "its last whole member is '00002.cls'" in told


@pytest.mark.parametrize("record", [b"99999 path=x\n", b"x path=y\n", b"20 size=-7777777777\n"])
def test_damage_behind_the_checksum_of_a_header_is_refused_or_ignored(tmp_path, record):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    path = mixed(tmp_path, (header, record), *samples(USUAL, first=10))
    try:
        data = opened(path, tmp_path / "cache")
    except DataError as error:
        assert "its last whole member is '00005.cls'" in str(error)
    else:
        assert all_images(data) >= encoded(*range(6))


def test_every_damage_of_one_byte_is_refused_or_leaves_images_that_are_right(tmp_path):
    path = mixed(tmp_path, labels=["ant", "bee", "ant", "bee"])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(40):
        content = bytearray(whole)
        content[rng.integers(boundaries(path)[1])] ^= int(rng.integers(1, 256))
        damaged = tmp_path / f"{number}.tar"
        damaged.write_bytes(content)
        try:
            data = opened(damaged, tmp_path / "cache", cache="none")
        except DataError as error:
            assert "\n" not in str(error)
        else:
            assert sum(data.info.train_counts + data.info.test_counts) >= 2
            all_images(data)


def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path):
    path = mixed(tmp_path)
    packed = tmp_path / "mixed.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    told = refusal(packed, tmp_path / "cache")
    assert "expected plain tar files" in told
    assert "gunzip" in told
    path.write_bytes(packed.read_bytes())
    assert "its last whole member is none" in refusal(path, tmp_path / "cache")


def test_a_shard_that_is_missing_is_named(tmp_path):
    for shard in (0, 1, 3):
        write_tar(tmp_path / f"{shard}.tar", *samples(USUAL, first=10 * shard))
    told = refusal(tmp_path / "{0..3}.tar", tmp_path / "cache")
    assert f"expected {tmp_path}/2.tar, one of 4 shards, found no such file" in told
    assert "correct the numbers in braces" in told


def test_braces_without_their_other_half_are_refused(tmp_path):
    mixed(tmp_path)
    assert "expected braces in pairs" in refusal(tmp_path / "{0..3.tar", tmp_path / "cache")


@pytest.mark.parametrize("written", ["{a,a}.tar", "{a,link}.tar", "{a,./a}.tar"])
def test_a_shard_that_is_given_twice_is_refused(tmp_path, written):
    path = write_tar(tmp_path / "a.tar", *samples(USUAL))
    (tmp_path / "link.tar").symlink_to(path)
    assert "expected every shard once, found" in refusal(tmp_path / written, tmp_path / "cache")


@pytest.mark.parametrize(
    "written", ["{0..999999999999}", "{a..z}{a..z}{a..z}{a..z}", "{{1..99999}{1..99999},x}"]
)
def test_braces_for_too_many_names_are_refused_before_they_are_expanded(tmp_path, written):
    told = refusal(tmp_path / f"{written}.tar", tmp_path / "cache")
    assert "expected 100000 shards at most, found more in" in told


def test_as_many_names_are_counted_as_there_are(tmp_path):
    (tmp_path / "a.tar").mkdir()
    for written, count in {
        "{0..9}{00..10..2}": 60,
        "{x-{000..999},y-{000..999}}": 2000,
        "{x{1..2}}{a..c}": 6,
        r"\{1..5\}{a,b,}": 3,
        "{1,2,{7..3}}": 7,
    }.items():
        told = refusal(tmp_path / f"{written}.tar", tmp_path / "cache")
        assert f"one of {count} shards, found no such file" in told
        assert foreign._count(written) == count


def test_braces_that_nobody_can_read_are_refused(tmp_path):
    for written in ("{" + "9" * 5000 + "..1}", "{a,b" * 1000 + "}" * 1000):
        assert "expected " in refusal(tmp_path / f"{written}.tar", tmp_path / "cache")[:9]


@pytest.mark.parametrize(
    "written",
    ["a.tar.gz", "{0..3.tar", "{0..999999}.tar", "{a,a}.tar"],
)
def test_messages_hold_no_passwords(tmp_path, written):
    told = refusal(f"s3://KEY:SECRET@bucket/{written}", tmp_path)
    assert "s3://KEY:***@bucket/" in told
    assert "SECRET" not in told


def test_in_a_bucket_shards_are_not_listed_and_no_password_is_written_down(store, tmp_path):
    name = store.bucket.removeprefix("s3://")
    for number in range(2):
        path = write_tar(tmp_path / f"{number}.tar", *samples(USUAL, first=10 * number))
        (Location.at(store.bucket) / path.name).write_bytes(path.read_bytes())
    store.proxy.forget()
    written = f"s3://KEY:SECRET@{name}/{{0..1}}.tar"
    data = open_dataset(DataConfig(data=written, cache_dir=str(tmp_path / "cache")))
    assert all_images(data) == encoded(*range(6), *range(10, 16))
    assert not [path for _, path in store.proxy.requests if "list-type" in path]
    (manifest,) = (tmp_path / "cache").rglob("manifest.json")
    assert data.info.name == name
    assert "SECRET" not in manifest.read_text()


def test_neighbours_of_shards_are_not_looked_at(tmp_path):
    path = mixed(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to("/nowhere")
    assert len(all_images(opened(path, tmp_path / "cache"))) == 6


def test_a_cache_folder_that_cannot_be_written_to_is_named_with_the_remedy(tmp_path):
    path = mixed(tmp_path)
    (tmp_path / "cache").write_text("no folder")
    told = refusal(path, tmp_path / "cache")
    assert f"to write the index of the shards to, found {tmp_path}/cache/index with:" in told
    assert "give another with --cache-dir" in told


class FailingDisk(LocalDisk):
    """A disk whose files can be opened and not read."""

    def open_stream(self, path):
        raise OSError(errno.EIO, "Input/output error")


def test_a_disk_that_fails_is_not_taken_for_the_cache_folder():
    with pytest.raises(DataError, match=r"^cannot read /a\.tar \(Input/output error\): check"):
        foreign_scan.scan(Location(FailingDisk(), "/a.tar"), 10240)


def test_tars_without_labelled_images_are_refused(tmp_path):
    path = write_tar(tmp_path / "a.tar", *(one for one in samples(USUAL) if "png" in one[0].name))
    told = refusal(path, tmp_path / "cache")
    assert "with labels (cls or json)" in told
    assert "00000 in" in told
    write_tar(path, member("readme.txt", b"nothing here"))
    assert "found none: give shards in WebDataset's form" in refusal(path, tmp_path / "cache")


def left_out(tmp_path, *more, images=6):
    """The problems of a shard with something wrong in it; all else is read, unless strict."""
    path = mixed(tmp_path, *more)
    data = opened(path, tmp_path / "cache")
    assert all_images(data) == encoded(*range(images))
    assert data.info.skipped == len(data.info.unreadable)
    if data.info.skipped:
        told = refusal(path, tmp_path / "cache", strict=True)
        assert f"expected only usable images, found {data.info.skipped} that are not" in told
    return data.info.unreadable


def test_a_member_without_label_is_left_out_with_a_count(tmp_path):
    more = [member("7.png", png(picture(7))), member("8.png", png(picture(8)))]
    broken = [member("8.json", b"[" * 10**5), member("9.json", b'{"label": ""}')]
    problems = left_out(tmp_path, *more, *broken, member("9.png", png(picture(9))))
    assert [problem.split(" in ")[0] for problem in problems] == ["7", "8", "9"]
    assert all("has no label (cls, or" in problem for problem in problems)


@pytest.mark.parametrize("label", [b"9" * 5000, b"ant\nbee", b"a" * 256])
def test_a_label_that_is_none_is_left_out_with_a_count(tmp_path, label):
    (problem,) = left_out(tmp_path, member("7.png", png(picture(7))), member("7.cls", label))
    assert problem.startswith("7 in ")
    assert "has a label of more than one line or of more than 255 letters" in problem


def test_a_label_that_is_no_text_is_left_out_with_a_count(tmp_path):
    broken = member("7.json", b'{"label": "\\ud800"}')
    assert len(left_out(tmp_path, member("7.png", png(picture(7))), broken)) == 1


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_not_utf_8_are_left_out_with_a_count(tmp_path, form):
    name = os.fsdecode(b"fianc\xe9")
    more = [member(f"{name}.png", png(picture(7))), member(f"{name}.cls", b"ant")]
    path = write_tar(tmp_path / "a.tar", *samples(USUAL), *more, form=form)
    data = opened(path, tmp_path / "cache")
    assert all_images(data) == encoded(*range(6))
    assert data.info.unreadable[0] == rf"fianc\udce9.png in {path} has a name that is not UTF-8"
    assert data.info.skipped == 2


def test_names_of_several_lines_stay_on_one(tmp_path):
    (problem,) = left_out(tmp_path, member("7\n8.png", b"no image"), member("7\n8.cls", b"ant"))
    assert problem.startswith(r"cannot read 7\n8 in ")


def test_keys_that_come_twice_are_left_out_with_a_count(tmp_path):
    # Once apart, once right behind the first: the library refuses the latter.
    again = [member("00002.png", png(picture(72))), member("00002.cls", b"bee")]
    behind = [member("00005.png", png(picture(75))), member("00005.cls", b"bee")]
    problems = left_out(tmp_path, *behind, *again)
    assert [problem.split(" in ")[0] for problem in problems] == ["00005", "00002"]
    assert all(problem.endswith("is there twice: the first is used") for problem in problems)


def test_an_unreadable_image_is_left_out_with_a_count(tmp_path):
    bad = [member("7.jpg", jpeg(picture(7))[:100]), member("7.cls", b"ant")]
    empty = [member("8.jpg"), member("8.cls", b"ant")]
    problems = left_out(tmp_path, *bad, *empty)
    assert problems[0].startswith("cannot read 7 in ")
    assert problems[1].endswith("mixed.tar: not an image")


def bomb(side):
    """A valid PNG of a colour, of a million times its own size."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(10**6))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_decompression_bomb_is_left_out_with_its_size(tmp_path, side):
    (problem,) = left_out(tmp_path, member("7.png", bomb(side)), member("7.cls", b"ant"))
    assert "decompression bomb" in problem


def test_a_member_that_claims_to_be_huge_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign_scan, "_LARGEST_MEMBER", 50_000)
    large = [member("7.png", bytes(60_000)), member("7.cls", b"ant")]
    (problem,) = left_out(tmp_path, *large, member("8.bin", bytes(60_000)))
    assert problem == f"7.png in {tmp_path}/mixed.tar claims 60000 bytes, more than 50000"


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil-idm_ray", "a/../../evil"])
def test_names_that_lead_elsewhere_are_ignored(tmp_path, name):
    more = [member(f"{name}.png", png(picture(7))), member(f"{name}.cls", b"ant")]
    path = tmp_path / "in" / "side" / "mixed.tar"
    problems = left_out(path.parent, *more)
    assert problems == tuple(
        f"{name}.{kind} in {path} is no plain file inside the tar" for kind in ("png", "cls")
    )
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_ignored(tmp_path, kind):
    secret = tmp_path / "secret.png"
    picture(99).save(secret)
    more = [member("7.png", type=kind, linkname=str(secret)), member("7.cls", b"ant")]
    (problem,) = left_out(tmp_path / "in", *more)
    assert problem == f"7.png in {tmp_path}/in/mixed.tar is no plain file inside the tar"
    assert not list(tmp_path.rglob("7.png"))


def test_sparse_members_are_ignored(tmp_path):
    # What they hold does not lie in one piece in the file.
    content = png(picture(7))
    sparse = {"GNU.sparse.map": f"0,{len(content)}", "GNU.sparse.size": str(len(content))}
    info, content = member("7.png", content, pax_headers=sparse)
    path = write_tar(
        tmp_path / "a.tar",
        *samples(USUAL),
        (info, content),
        member("7.cls", b"ant"),
        form=tarfile.PAX_FORMAT,
    )
    data = opened(path, tmp_path / "cache")
    assert all_images(data) == encoded(*range(6))
    assert data.info.unreadable == (f"7.png in {path} is no plain file inside the tar",)


@pytest.mark.parametrize("form", ["gnu", "posix"])
def test_a_sparse_member_larger_than_the_archive_is_no_damage(tmp_path, form):
    folder = tmp_path / "files"
    folder.mkdir()
    for info, content in samples(USUAL):
        (folder / info.name).write_bytes(content)
    with (folder / "7.png").open("wb") as file:
        file.truncate(10**8)
    command = ["tar", f"--format={form}", "--sparse", "-C", folder, "-cf", tmp_path / "a.tar"]
    subprocess.run([*command, *sorted(os.listdir(folder))], check=True)
    data = opened(tmp_path / "a.tar", tmp_path / "cache")
    assert all_images(data) == encoded(*range(6))
    assert data.info.unreadable == (f"7.png in {tmp_path}/a.tar is no plain file inside the tar",)


@pytest.mark.parametrize("suffix", ["pyd", "pkl", "pth", "pickle"])
def test_pickled_members_are_never_loaded(tmp_path, suffix):
    # Whoever unpickles these lines calls os.mkdir on the folder they name.
    pickled = f"cos\nmkdir\n(S'{tmp_path / 'ran'}'\ntR.".encode()
    more = [member(f"00005.{suffix}", pickled), member(f"7.{suffix}", pickled)]
    assert left_out(tmp_path, *more) == ()
    data = opened(tmp_path / "mixed.tar", tmp_path / "other cache")
    data.sharded.fill_cache(seed=0).stop()
    all_images(data)
    assert not (tmp_path / "ran").exists()


# --- What changes after it was indexed ---


def test_a_shard_that_changed_is_indexed_again(tmp_path):
    path = mixed(tmp_path)
    before = opened(path, tmp_path / "cache").info
    mixed(tmp_path, *samples(["cat", "cat"], first=10))
    after = opened(path, tmp_path / "cache").info
    assert after.class_names == ("ant", "bee", "cat")
    assert after.fingerprint != before.fingerprint


def test_a_shard_that_changes_while_it_is_used_is_refused(tmp_path):
    path = mixed(tmp_path)
    data = opened(path, tmp_path / "cache", cache="none")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    content = path.read_bytes()
    path.write_bytes(bytes(content).replace(png(picture(0))[-30:], bytes(30)))
    os.utime(path, ns=times)
    for place in (data, opened(path, tmp_path / "cache", cache="none")):
        with pytest.raises(DataError, match=r"mixed\.tar as it was when it was indexed, found oth"):
            all_images(place)
    path.write_bytes(content[:-512])
    with pytest.raises(DataError, match=r"bytes in .*mixed\.tar, found .* cut short or changed"):
        all_images(data)
    path.unlink()
    with pytest.raises(DataError, match=r"cannot read .*mixed\.tar \(No such file"):
        all_images(data)
