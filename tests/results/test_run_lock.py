import errno
import fcntl
import os
import subprocess
import sys

import pytest

from idm_ray.errors import UserError
from idm_ray.results.run_folder import RunFolder
from tests.data.small_disk import on_a_small_disk

WRITER = """
import sys
from idm_ray.results.run_folder import RunFolder
with RunFolder.create(sys.argv[1], overwrite=True) as folder:
    folder.write_config({})
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def writer(path):
    """Another process that is writing to the run; ends with its standard input."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def refusal(act):
    with pytest.raises(UserError) as raised:
        act()
    return str(raised.value)


def test_who_comes_second_is_refused_at_once_and_changes_nothing(path, writer):
    expected = f"another process is writing to {path}: wait for its end, or stop it"
    assert refusal(lambda: RunFolder.open(path).lock()) == expected
    assert refusal(lambda: RunFolder.check(path, overwrite=True)) == expected
    assert refusal(lambda: RunFolder.create(path, overwrite=True)) == expected
    assert sorted(os.listdir(path)) == [".lock", "config.yaml"]


def test_a_run_can_be_read_while_it_is_written(path, writer):
    with RunFolder.open(path) as folder:
        assert not folder.is_complete
    with pytest.raises(UserError):
        RunFolder.open(path).lock()


def test_a_writer_that_has_ended_leaves_no_lock(path, writer):
    writer.communicate()
    assert os.listdir(path) == ["config.yaml"]
    with RunFolder.open(path) as folder:
        folder.lock()


def test_a_killed_writer_leaves_a_file_but_no_lock(path, writer):
    writer.kill()
    writer.wait()
    assert sorted(os.listdir(path)) == [".lock", "config.yaml"]
    with RunFolder.open(path) as folder:
        folder.lock()
    assert os.listdir(path) == ["config.yaml"]


def test_what_a_killed_writer_leaves_is_no_run(path, writer):
    writer.kill()
    writer.wait()
    (path / "config.yaml").unlink()
    RunFolder.check(path, overwrite=False)
    RunFolder.create(path, overwrite=False).close()
    assert os.listdir(path) == []


def test_a_run_that_somebody_has_begun_since_the_check_is_not_overwritten(path, monkeypatch):
    # The moment between the first look and the lock.
    monkeypatch.setattr(RunFolder, "check", lambda *args, **options: None)
    with RunFolder.create(path, overwrite=False) as folder:
        folder.write_config({})
    message = refusal(lambda: RunFolder.create(path, overwrite=False))
    assert message.startswith(f"expected a new folder, found a run in {path}; ")
    assert os.listdir(path) == ["config.yaml"]


def test_locking_and_closing_again_is_harmless(path):
    with RunFolder.create(path, overwrite=False) as folder:
        folder.lock()
        folder.write_config({})
        with pytest.raises(UserError):
            RunFolder.open(path).lock()
    folder.close()
    with RunFolder.open(path) as folder:
        folder.lock()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_runs_are_written_without(path, monkeypatch, number):
    def refuse(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with RunFolder.create(path, overwrite=False) as folder:
        folder.write_config({})
        assert os.listdir(path) == ["config.yaml"]
    with RunFolder.open(path) as folder:
        folder.lock()
    assert os.listdir(path) == ["config.yaml"]


ON_A_READ_ONLY_DISK = """
import subprocess, sys
from idm_ray.config import RunConfig
from idm_ray.errors import UserError
from idm_ray.results.run_folder import RunFolder

path = f"{sys.argv[1]}/run"
config = {"options": RunConfig().flat(), "data": {"fingerprint": "0"}}
with RunFolder.create(path, overwrite=False) as folder:
    folder.write_config(config)
open(f"{path}/.lock", "w").close()
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
with RunFolder.open(path) as folder:
    print(folder.is_complete, folder.read_config() == config)
    RunFolder.check(path, overwrite=True)
    for act in (folder.lock, lambda: RunFolder.create(path, overwrite=True)):
        try:
            act()
        except UserError as error:
            print(str(error).replace(path, "RUN"))
"""


def test_a_run_on_a_read_only_disk_can_be_read_and_not_written(tmp_path):
    assert on_a_small_disk(tmp_path, ON_A_READ_ONLY_DISK).splitlines() == [
        "False True",
        "expected a run to write to in RUN, found: Read-only file system; make the folder "
        "writable, or copy the run elsewhere",
        "expected a folder to write to at RUN, found: Read-only file system; choose another --out",
    ]
