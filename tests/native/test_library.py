import os
import subprocess
import sys
from pathlib import Path

import pytest

from idm_ray.native import library

TELL = """
from idm_ray.native import library
found = library.load()
print(found.functions is not None, found.has_convolutions, found.obstacle)
"""


def load_elsewhere(folder, **environment):
    """What a new process with a cache of its own says of the library."""
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        env=os.environ | {"XDG_CACHE_HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def compiled(folder):
    return sorted(Path(folder).glob("idm_ray/native/*.so"))


needs_compiler = pytest.mark.skipif(library.load().functions is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder with a compiled library."""
    folder = tmp_path_factory.mktemp("cache")
    assert load_elsewhere(folder).startswith("True")
    return folder


@needs_compiler
def test_the_library_is_compiled_once_and_used_by_later_processes(cache):
    (file,) = compiled(cache)
    written = file.stat().st_mtime_ns
    assert load_elsewhere(cache).startswith("True")
    assert compiled(cache) == [file]
    assert file.stat().st_mtime_ns == written


def fake_compiler(folder, text):
    folder.mkdir()
    for name in ("g++", "clang++", "c++"):
        script = folder / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_without_a_compiler_the_reason_is_told(tmp_path):
    (tmp_path / "empty").mkdir()
    found = load_elsewhere(tmp_path, PATH=str(tmp_path / "empty"))
    assert found == "False False no C++ compiler was found"


def test_a_compiler_that_fails_is_quoted_in_one_line_and_leaves_nothing(tmp_path):
    script = (
        '[ "$1" = --version ] && exit 0\n'
        "echo In file x: >&2\n"
        'echo "error: no such flag" >&2\n'
        "exit 1"
    )
    broken = fake_compiler(tmp_path / "bin", script)
    found = load_elsewhere(tmp_path, **broken)
    assert found == f"False False {tmp_path}/bin/c++ failed: error: no such flag"
    assert compiled(tmp_path) == []


@needs_compiler
def test_another_compiler_does_not_get_the_library_of_the_first(cache, tmp_path):
    other = fake_compiler(tmp_path / "bin", '[ "$1" = --version ] && echo other && exit 0\nexit 1')
    assert "failed" in load_elsewhere(cache, **other)


def usable(folder):
    """Whether what lies in a cache folder would be executed."""
    return library._own_folder() == folder


def test_a_folder_that_others_may_write_to_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "idm_ray" / "native"
    assert usable(folder)
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        assert not usable(folder)
    folder.chmod(0o700)
    assert usable(folder)
    moved = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(moved)
    assert not usable(folder)


def test_where_the_cache_cannot_be_written_to_a_folder_of_the_process_serves(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    folder = library._own_folder()
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder == library._own_folder()


@needs_compiler
def test_a_library_cut_short_by_a_crash_is_compiled_anew(cache):
    (file,) = compiled(cache)
    content = file.read_bytes()
    file.write_bytes(b"")
    assert load_elsewhere(cache).startswith("True")
    assert len(file.read_bytes()) == len(content)
