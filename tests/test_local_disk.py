import os

import pytest

from idm_ray.local_disk import abandoned_files, atomic_write, list_files


def test_a_written_file_holds_what_was_written_and_nothing_else_is_left(tmp_path):
    with atomic_write(tmp_path / "file") as file:
        file.write(b"content")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"content"
    assert os.listdir(tmp_path) == ["file"]


def test_an_exception_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "file") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_being_written_is_told_with_the_name_it_was_to_take(tmp_path):
    for name in (".tmp", "a.tmp", ".a.tmp", ".a.0123abcd.tmp.txt", ".a.0123ABCD.tmp"):
        (tmp_path / name).write_text("of others")
    with atomic_write(tmp_path / "first.json"), atomic_write(tmp_path / ".second.x"):
        found = dict(abandoned_files(tmp_path))
        assert sorted(found.values()) == [".second.x", "first.json"]
        assert all(file.parent == tmp_path and file.is_file() for file in found)
    assert dict(abandoned_files(tmp_path)) == {}
    assert dict(abandoned_files(tmp_path / "missing")) == {}


def test_files_are_listed_below_all_folders_without_hidden_ones_and_links_are_followed(tmp_path):
    (tmp_path / "root" / "b").mkdir(parents=True)
    (tmp_path / "root" / ".hidden").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("root/b/2", "root/a", "root/.c", "root/.hidden/3", "elsewhere/4"):
        (tmp_path / name).write_text(name)
    (tmp_path / "root" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "b" / "circle").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "lost").symlink_to(tmp_path / "nowhere")
    found = {entry.path: entry.size for entry in list_files(tmp_path / "root")}
    assert found == {"a": 6, "b/2": 8, "linked/4": 11, "lost": 0}
    assert list(found) == sorted(found)


def test_the_identity_of_a_file_changes_with_its_size_and_its_time(tmp_path):
    file = tmp_path / "file"
    file.write_text("1")
    os.utime(file, ns=(0, 1))
    identities = {list_files(tmp_path)[0].identity()}
    os.utime(file, ns=(0, 2))
    identities.add(list_files(tmp_path)[0].identity())
    file.write_text("12")
    os.utime(file, ns=(0, 2))
    identities.add(list_files(tmp_path)[0].identity())
    assert len(identities) == 3
