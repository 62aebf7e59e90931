"""Tar files of strangers: indexed once, then used like shards of our own; nothing is trusted."""

import gzip
import io
import os
import struct
import tarfile
import zlib

import numpy as np
import pytest

from idm_ray.config import DataConfig
from idm_ray.data import foreign, foreign_scan
from idm_ray.data.foreign import is_foreign
from idm_ray.data.sources import source_bytes
from idm_ray.errors import DataError
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
