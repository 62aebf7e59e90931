import os
import signal
import subprocess
import sys
from urllib.parse import urlencode

import numpy as np
import pytest
from pyarrow.fs import LocalFileSystem

from idm_ray import object_store
from idm_ray.errors import DataError, StorageError
from idm_ray.object_filesystem import Patience, kept_private, open_filesystem
from idm_ray.object_store import READ_BLOCK_BYTES
from idm_ray.storage import Location

# Three parts of an upload: pyarrow sends 10 MiB at a time.
LARGE = 21 << 20


@pytest.fixture
def file(store):
    return Location.at(store.bucket) / "folder" / "file"


def use_tries(monkeypatch, tries):
    patience = Patience(
        tries=tries, first_wait_s=0.01, connect_timeout_s=1.0, silence_timeout_s=1.0
    )
    monkeypatch.setattr(object_store, "PATIENCE", patience)


# --- What a request costs ---


def test_opening_asks_for_the_size_once_and_reading_for_no_more_than_it_needs(store, file):
    file.write_bytes(bytes(1000))
    store.proxy.forget()
    with file.open_random() as reader:
        assert reader.read_at(10, 20) == reader.read_at(980, 20) == bytes(20)
    assert store.proxy.methods() == ["HEAD", "GET", "GET"]
    assert store.proxy.bytes_sent == 40
    store.proxy.forget()
    assert file.size() == 1000
    assert store.proxy.methods() == ["HEAD"]


def test_a_stream_is_read_block_by_block_and_once(store, file):
    content = np.random.default_rng(0).bytes(READ_BLOCK_BYTES + 1000)
    file.write_bytes(content)
    store.proxy.forget()
    with file.open_stream() as stream:
        assert stream.read(10) == content[:10]
        assert stream.read() == content[10:]
    assert store.proxy.methods() == ["HEAD", "GET", "GET"]
    assert store.proxy.bytes_sent == len(content)


# --- Failures that pass, and those that do not ---


@pytest.mark.parametrize("trouble", [500, 503, 429, "cut", "halve", "stall"])
def test_a_failure_that_passes_is_not_noticed(store, file, trouble):
    file.write_bytes(b"0123456789")
    with file.open_random() as reader:
        store.proxy.fail(trouble, times=1)
        assert reader.read_at(2, 4) == b"2345"
    store.proxy.fail(trouble, times=1)
    file.write_bytes(b"other")
    assert file.read_bytes() == b"other"


@pytest.mark.parametrize("trouble", [500, "cut", "halve", "stall"])
def test_a_failure_that_stays_ends_in_one_error_after_the_named_tries(
    store, file, trouble, monkeypatch
):
    file.write_bytes(b"0123456789")
    use_tries(monkeypatch, 2)
    with file.open_random() as reader:
        store.proxy.fail(trouble)
        store.proxy.forget()
        with pytest.raises(StorageError, match=r"folder/file: gave up after 2 tries \(.+\); check"):
            reader.read_at(2, 4)
        # The network library itself asks again once if a kept connection is cut.
        assert store.proxy.methods() in (["GET"] * 2, ["GET"] * 3)
    with pytest.raises(StorageError, match=r"folder/file: gave up after 2 tries"):
        file.write_bytes(b"other")
    store.proxy.heal()
    assert file.read_bytes() == b"0123456789"


def test_a_store_that_is_not_there_is_named(store, file, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        StorageError, match=r"gave up after 3 tries .*127\.0\.0\.1:9.*; check the netw"
    ):
        file.exists()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, "no access to s3://bucket-.*/folder/file: set AWS_ACCESS_KEY_ID and AWS_SECRET"),
        (401, "no access to s3://"),
        (301, "s3://bucket-.*/folder/file is in another region: set AWS_REGION"),
    ],
)
def test_what_cannot_pass_is_not_tried_again(store, file, status, message):
    store.proxy.fail(status)
    for use in (file.exists, file.read_bytes, file.files, file.delete, lambda: file.write_text("")):
        store.proxy.forget()
        with pytest.raises(DataError, match=message):
            use()
        assert len(store.proxy.requests) == 1


def test_a_missing_bucket_is_named(store):
    place = Location.at("s3://no-such-bucket/x")
    assert not place.exists()
    for use in (place.files, place.read_bytes, lambda: place.write_text("")):
        with pytest.raises(DataError, match=r"found none: check its name, and the endpoint"):
            use()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "foo://bucket/x",
            "expected a path or a URI that pyarrow.fs opens, .*, got foo://bucket/x",
        ),
        ("s3://bucket/x?endpoint=y", "expected endpoint_override, region, .*, got 'endpoint'"),
        ("s3:///x", "expected a path or a URI .* such as s3://bucket/folder, got s3:///x"),
    ],
)
def test_a_wrong_uri_is_refused(written, message):
    with pytest.raises(DataError, match=message):
        Location.at(written).exists()


def test_the_uri_alone_says_where_and_who(store, monkeypatch):
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    bucket = store.bucket.removeprefix("s3://")
    query = urlencode({"endpoint_override": endpoint, "region": "eu-west-1"})
    place = Location.at(f"s3://key:secret@{bucket}/x?{query}")
    place.write_text("text")
    assert place.read_bytes() == b"text"


def test_an_unknown_uri_is_refused_without_its_password():
    with pytest.raises(DataError) as refused:
        Location.at("foo://user:secret@host/x").exists()
    assert "secret" not in str(refused.value)


def test_any_other_uri_that_pyarrow_opens_is_used_the_same_way():
    folder = Location.at("fsspec+memory:///folder")
    (folder / "a/b").write_text("text")
    assert (folder / "a/b").read_bytes() == b"text"
    assert [entry.path for entry in folder.files()] == ["a/b"]
    assert folder.is_folder()
    with pytest.raises(
        DataError, match=r"at fsspec\+memory:///folder/c, found none: check its name$"
    ):
        (folder / "c").read_bytes()


def test_google_s_own_tries_end_soon():
    filesystem, _ = open_filesystem("gs://anonymous@bucket", "", Patience())
    _, (options,) = filesystem.__reduce__()
    assert options["retry_time_limit"].total_seconds() == Patience().silence_timeout_s


# --- Uploads are whole or absent ---


@pytest.mark.parametrize(
    ("methods", "after"), [("POST", 0), ("PUT", 0), ("PUT", 1), ("PUT", 2), ("POST", 1)]
)
def test_whichever_request_of_an_upload_fails_the_old_object_stays(
    store, file, methods, after, monkeypatch
):
    use_tries(monkeypatch, 1)
    monkeypatch.setattr(object_store, "_WRITE_BLOCK_BYTES", 8 << 20)
    file.write_text("old")
    store.proxy.fail(503, methods=methods, after=after, times=1)
    with pytest.raises(StorageError):
        file.write_bytes(bytes(LARGE))
    assert file.read_bytes() == b"old"
    file.write_bytes(bytes(LARGE))
    assert file.size() == LARGE


def test_an_exception_while_writing_sends_nothing(store, file):
    with pytest.raises(KeyboardInterrupt), file.atomic_write() as target:
        target.write(bytes(LARGE))
        raise KeyboardInterrupt
    assert not store.proxy.requests


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where a shell without job control started the tests with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_upload_leaves_the_whole_object(store, file, monkeypatch):
    sent = []

    def interrupt(method):
        if method == "PUT" and not sent:
            sent.append(method)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(object_store, "_WRITE_BLOCK_BYTES", 8 << 20)
    store.proxy.watch = interrupt
    with pytest.raises(KeyboardInterrupt):
        file.write_bytes(bytes(LARGE))
    assert file.size() == LARGE


def test_a_process_that_used_a_store_ends_at_once(store, file):
    code = (
        "import sys, time\n"
        "from idm_ray.storage import Location\n"
        "place = Location.at(sys.argv[1])\n"
        "place.write_text('text')\n"
        "reader = place.open_random()\n"  # left open
        "print(place.read_bytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "b'text'\n"
    assert done.stderr == ""


def test_tune_makes_folders_where_that_can_be_done_and_goes_on_where_not(tmp_path):
    local = LocalFileSystem()
    with pytest.raises(OSError, match="/proc/folder"):
        local.create_dir("/proc/folder")
    kept_private(local).create_dir("/proc/folder")
    kept_private(local).create_dir(str(tmp_path / "folder"))
    assert (tmp_path / "folder").is_dir()
