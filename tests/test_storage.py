import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from idm_ray.errors import DataError
from idm_ray.storage import Location, shown
from tests.sending import sent

AWKWARD = "a b/100%/what?#1 \u0142.txt"


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    """A folder that does not exist yet, on disk and in a bucket: all else is the same."""
    if request.param == "local":
        return Location.at(tmp_path / "folder")
    return Location.at(request.getfixturevalue("store").bucket) / "folder"


# --- Names ---


def test_a_local_path_is_absolute_and_knows_the_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert str(Location.at("data/x")) == str(tmp_path / "data/x")
    assert Location.at("~/x").local == Path("/home/me/x")
    assert Location.at(Path("x")) == Location.at(f"file://{tmp_path}/x")
    assert Location.at("file:///a%20b").local == Path("/a b")


def test_a_uri_has_no_local_path():
    assert Location.at("s3://bucket/x").local is None


@pytest.mark.parametrize(
    "written",
    [
        "/a/b c",
        "s3://bucket",
        "s3://bucket/a/b",
        "s3://bucket/a?endpoint_override=http://127.0.0.1:9000&region=x",
        "gs://bucket/a%25b",
        "abfs://container@account.dfs.core.windows.net/a",
    ],
)
def test_what_a_location_shows_makes_it_again(written):
    assert str(Location.at(written)) == written
    assert Location.at(str(Location.at(written) / AWKWARD)) == Location.at(written) / AWKWARD


def test_parts_are_joined_and_taken_apart():
    for root in ("/", "/data", "s3://bucket", "s3://bucket/data?region=x"):
        place = Location.at(root) / "train" / "ant/1.png"
        assert place.name == "1.png"
        assert str(place).partition("?")[0].endswith("/train/ant/1.png")
        assert place.local in (None, Path(root, "train/ant/1.png"))
        assert place / "" == place
        assert place.parent.parent == Location.at(root) / "train"
        assert place.parent.parent.parent == Location.at(root)
    assert Location.at("s3://bucket").parent == Location.at("s3://bucket")
    assert Location.at("s3://bucket").name == "bucket"
    assert Location.at("s3://bucket/a/?region=x") == Location.at("s3://bucket/a?region=x")


@pytest.mark.parametrize("part", ["../secret", "a/../../secret", "/etc/passwd"])
@pytest.mark.parametrize("root", ["/data", "s3://bucket/data"])
def test_a_part_cannot_lead_out_of_its_folder(root, part):
    with pytest.raises(DataError, match=r"expected a path inside .*data, got"):
        Location.at(root) / part


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("s3://KEY:SECRET@bucket/x", "s3://KEY:***@bucket/x"),
        ("abfs://c:SECRET@a.dfs.core.windows.net/x", "abfs://c:***@a.dfs.core.windows.net/x"),
        (
            "abfs://c@a.dfs.core.windows.net/x?sig=SECRET",
            "abfs://c@a.dfs.core.windows.net/x?sig=***",
        ),
    ],
)
def test_passwords_are_hidden_in_messages_and_kept_for_use(written, message):
    place = Location.at(written)
    assert str(place) == shown(written) == message
    assert "SECRET" not in repr(place)
    assert place.address == written
    assert sent(place).address == written


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("s3://KEY:SECRET@bucket", "bucket"),
        ("s3://KEY:SECRET@bucket/", "bucket"),
        ("abfs://c@a.dfs.core.windows.net", "c@a.dfs.core.windows.net"),
    ],
)
def test_the_name_of_a_bucket_holds_no_password(written, name):
    assert Location.at(written).name == (Location.at(written) / "a.tar").parent.name == name


def test_a_relative_path_is_shown_as_it_was_written():
    assert shown("runs/first") == "runs/first"


def test_a_uri_that_went_through_a_path_is_refused():
    with pytest.raises(
        DataError, match="expected a URI as text, got a Path, which makes it 's3:/b"
    ):
        Location.at(Path("s3://bucket/x"))


# --- Reading and writing: the same on disk and in a bucket ---


def test_what_is_written_is_read_again(folder):
    file = folder / AWKWARD
    assert not file.exists()
    file.write_text("\u0142")
    assert file.exists()
    assert file.is_file()
    assert not file.is_folder()
    assert folder.is_folder()
    assert not folder.is_file()
    assert file.size() == 2
    assert file.read_bytes() == "\u0142".encode()
    file.write_bytes(b"")
    assert file.read_bytes() == b""


def test_files_are_listed_below_all_folders_in_order_and_without_hidden_ones(folder):
    for name in ("b/2", "b/10", "a", ".hidden", "b/.hidden/3", AWKWARD):
        (folder / name).write_text(name)
    found = [(entry.path, entry.size) for entry in folder.files()]
    assert found == [(name, len(name.encode())) for name in ("a", AWKWARD, "b/10", "b/2")]
    assert all(entry.mtime_ns > 0 for entry in folder.files())


def test_a_file_has_an_entry_and_nothing_else_has(folder):
    (folder / "b/2").write_text("two")
    entry = (folder / "b/2").entry()
    assert (entry.path, entry.size) == ("2", 3)
    assert entry.mtime_ns == folder.files()[0].mtime_ns
    assert (folder / "b").entry() is (folder / "no").entry() is (folder / "b/2/3").entry() is None


def test_a_file_is_seen_only_when_its_block_has_ended_well(folder):
    file = folder / "file"
    with file.atomic_write() as target:
        target.write(b"first")
        assert not file.exists()
    with pytest.raises(KeyboardInterrupt), file.atomic_write() as target:
        target.write(b"second")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"first"
    assert [entry.path for entry in folder.files()] == ["file"]


def test_what_is_being_written_can_be_read_and_changed(folder):
    with (folder / "file").atomic_write() as target:
        target.write(b"0123456789")
        target.seek(2)
        assert target.read(2) == b"23"
        target.seek(0)
        target.write(b"ab")
    assert (folder / "file").read_bytes() == b"ab23456789"


def test_deleting_is_harmless_where_there_is_nothing(folder):
    file = folder / "file"
    file.write_text("x")
    file.delete()
    assert not file.exists()
    file.delete()


def test_any_part_of_a_file_is_read_from_several_threads(folder):
    content = np.random.default_rng(0).bytes(100_000)
    (folder / "file").write_bytes(content)
    starts = range(0, 99_000, 1000)
    with (folder / "file").open_random(size=100_000) as reader, ThreadPoolExecutor(8) as threads:
        assert reader.size == 100_000
        parts = list(threads.map(lambda start: reader.read_at(start, 1500), starts[:-1]))
        assert reader.read_at(100_000, 0) == b""
    assert parts == [content[start : start + 1500] for start in starts[:-1]]


def test_a_file_that_is_shorter_than_expected_says_so(folder):
    (folder / "file").write_bytes(b"12345")
    with (folder / "file").open_random() as reader:
        with pytest.raises(
            DataError, match=r"at least 6 bytes in .*file, found only 5: it was cut"
        ):
            reader.read_at(4, 2)
        assert reader.read_at(4, 1) == b"5"
    with pytest.raises(DataError, match=r"expected 6 bytes in .*file, found 5: it was cut short"):
        (folder / "file").open_random(size=6)


def test_a_stream_can_be_a_tar(folder):
    with (folder / "x.tar").atomic_write() as target, tarfile.open(fileobj=target, mode="w") as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 1000
            tar.addfile(member, fileobj=_Zeros())
    with (folder / "x.tar").open_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        assert [(member.name, member.size) for member in tar] == [
            ("0.bin", 1000),
            ("1.bin", 1000),
            ("2.bin", 1000),
        ]


class _Zeros:
    def read(self, count):
        return bytes(count)


@pytest.mark.parametrize(
    "use",
    [
        lambda place: place.size(),
        lambda place: place.read_bytes(),
        lambda place: place.files(),
        lambda place: place.open_random(),
    ],
    ids=["size", "read_bytes", "files", "open_random"],
)
def test_what_is_missing_is_named(folder, use):
    (folder / "other").write_text("")
    with pytest.raises(DataError, match=r"folder/missing.*: check"):
        use(folder / "missing")


def test_a_folder_has_no_size(folder):
    (folder / "file").write_text("")
    with pytest.raises(DataError, match="expected a file"):
        folder.size()


def test_a_location_can_be_sent_elsewhere(folder):
    (folder / "file").write_text("text")
    assert sent(folder / "file").read_bytes() == b"text"
