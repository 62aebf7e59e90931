import os
import pickle

import numpy as np
import pytest
from safetensors.numpy import save

from idm_ray.algorithm.state import ModelVersion
from idm_ray.checkpoints.arrays import pack_model, unpack_model
from idm_ray.checkpoints.commit import Commit, StoredFile, StoredGroup
from idm_ray.checkpoints.folder import CheckpointFolder
from idm_ray.errors import CheckpointError
from idm_ray.storage import Location
from tests.checkpoints.making import bits, make_run, names_of, publish_run, read_run
from tests.sending import sent


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(Location.at(tmp_path / "checkpoints"))


@pytest.fixture
def commits(folder):
    """Two, the older first; they share the pretrained set."""
    return [publish_run(folder, number) for number in (1, 2)]


def assert_noticed(folder, commits, name):
    """Each commit with this file is refused for it, and the newest one without it is sound."""
    sound = [commit for commit in commits if name not in names_of(commit)]
    read, refused = [], []
    for found in folder.commits():
        try:
            if isinstance(found, CheckpointError):
                raise found
            assert bits(read_run(folder, found)) == bits(make_run(found.number))
            read.append(found)
        except CheckpointError as error:
            refused.append(str(error))
    assert read == sound
    assert len(refused) == 2 - len(sound) > 0
    for message in refused:
        assert message.startswith(f"{folder.place / name}: expected ")
        assert "\n" not in message


def test_every_truncation_is_noticed(folder, commits):
    rng = np.random.default_rng(0)
    for name in sorted(names_of(commits[1])):
        path = folder.place.local / name
        whole = path.read_bytes()
        sizes = rng.choice(len(whole), 17, replace=False).tolist()
        for size in [0, 8, len(whole) - 1, *sizes]:
            path.write_bytes(whole[:size])
            assert_noticed(folder, commits, name)
        path.write_bytes(whole)
    assert folder.commits() == [commits[1], commits[0]]


def test_every_flipped_bit_is_noticed(folder, commits):
    names = sorted(names_of(commits[1]))
    rng = np.random.default_rng(1)
    for _ in range(200):
        path = folder.place.local / names[rng.integers(len(names))]
        whole = path.read_bytes()
        bit = int(rng.integers(8 * len(whole)))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        assert_noticed(folder, commits, path.name)
        path.write_bytes(whole)


def test_a_longer_file_and_a_missing_one_are_noticed(folder, commits):
    for name in sorted(names_of(commits[1])):
        path = folder.place.local / name
        whole = path.read_bytes()
        path.write_bytes(whole + b"\n")
        assert_noticed(folder, commits, name)
        path.write_bytes(whole)
    path = folder.place.local / commits[1].models[0].name
    path.unlink()
    assert_noticed(folder, commits, path.name)
    os.mkdir(path)
    assert_noticed(folder, commits, path.name)
    os.rmdir(path)
    os.mkfifo(path)  # nobody ever writes to it
    assert_noticed(folder, commits, path.name)


def test_a_file_that_cannot_be_read_now_is_no_damaged_one(folder, commits):
    stored = commits[1].models[0]
    path = folder.place.local / stored.name
    path.unlink()
    path.symlink_to(path.name)  # for ever
    with pytest.raises(OSError, match="Too many levels") as error:
        folder.read_model(stored)
    assert error.value.filename == str(path)


@pytest.mark.parametrize("name", ["commit-00000002.json", "group-0000-00000020.safetensors"])
def test_a_file_that_claims_a_terabyte_is_not_read(folder, commits, name):
    os.truncate(folder.place.local / name, 1 << 40)
    assert_noticed(folder, commits, name)


def test_the_marker_of_another_commit_is_refused(folder, commits):
    copy = (folder.place / "commit-00000002.json").read_bytes()
    (folder.place / "commit-00000003.json").write_bytes(copy)
    newest, *others = folder.commits()
    assert str(newest) == (
        f"{folder.place / 'commit-00000003.json'}: expected commit 3, found commit 2"
    )
    assert others == [commits[1], commits[0]]


def test_a_folder_full_of_garbage_has_no_sound_commit(folder):
    rng = np.random.default_rng(2)
    for number in range(10):
        (folder.place / f"commit-{number:08d}.json").write_bytes(rng.bytes(300))
    (folder.place / f"commit-9{'0' * 100}.json").write_bytes(b"{}")
    found = folder.commits()
    assert len(found) == 11
    assert all(isinstance(one, CheckpointError) for one in found)


# --- Contents with a checksum that fits: of strangers, or of other programs ---


def stored_as(folder, content):
    (folder.place / "group-0000-00000001.safetensors").write_bytes(content)
    return StoredFile.of("group-0000-00000001.safetensors", content)


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_ever_unpickled(folder, tmp_path):
    sprung = tmp_path / "sprung"
    content = pickle.dumps(Trap(sprung))
    file = stored_as(folder, content)
    for read in (
        lambda: folder.read_group(StoredGroup(iteration=1, file=file)),
        lambda: folder.read_model(file),
        lambda: folder.read_pretrained(file),
        lambda: Commit.from_json(content),
    ):
        with pytest.raises(CheckpointError):
            read()
    (folder.place / "commit-00000001.json").write_bytes(content)
    assert isinstance(folder.commits()[0], CheckpointError)
    assert not sprung.exists()
    sent(Trap(sprung))  # what unpickles it springs it
    assert sprung.exists()


IMAGES = np.zeros((1, 1, 1, 2, 2), np.float32)
LOSSES = np.zeros((2, 3, 1), np.float32)
WEIGHTS = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "expected the arrays images, velocity, found []"),
        ({"images": IMAGES}, "expected the arrays images, velocity, found ['images']"),
        ({"images": IMAGES, "velocity": IMAGES, "copy-01": IMAGES}, "found ['copy-01', 'images', "),
        ({"images": IMAGES, "velocity": IMAGES, "copy--1": IMAGES}, "found ['copy--1', 'images', "),
        ({"images": IMAGES, "velocity": IMAGES[0]}, "found float32 of shape (1, 1, 2, 2) in 'vel"),
        ({"images": IMAGES, "velocity": IMAGES[:, :, :, :1]}, "(1, 1, 1, 1, 2) in 'velocity'"),
        ({"images": IMAGES, "velocity": IMAGES.astype(np.float64)}, "found float64 of shape"),
        ({"images": IMAGES[:0], "velocity": IMAGES[:0]}, "found float32 of shape (0, 1, 1, 2, 2)"),
        ({"images": IMAGES, "velocity": IMAGES, "copy-5": IMAGES[0]}, "in 'copy-5'"),
        ({"images": IMAGES, "velocity": IMAGES, "losses": LOSSES[:1]}, "found float32 of shape (1"),
        ({"images": IMAGES, "velocity": IMAGES, "losses": LOSSES[0]}, "expected float32 losses of"),
        ({"images": IMAGES, "velocity": IMAGES, "losses": LOSSES.astype(">i8")}, "found int64 of"),
    ],
)
def test_arrays_that_are_no_group_are_refused(folder, arrays, said):
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    file = stored_as(folder, save(arrays))
    with pytest.raises(CheckpointError) as caught:
        folder.read_group(StoredGroup(iteration=1, file=file))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{folder.place / file.name}: expected ")


@pytest.mark.parametrize("name", ["weights", "velocity"])
def test_arrays_that_are_no_model_are_refused(folder, name):
    arrays = {"weights": WEIGHTS, "velocity": WEIGHTS}
    for wrong in (WEIGHTS[:2], WEIGHTS[None], WEIGHTS.astype(np.int32)):
        file = stored_as(folder, save({**arrays, name: wrong}))
        with pytest.raises(CheckpointError, match="expected float32 numbers in 1 dimensions"):
            folder.read_model(file)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (np.array([1, 2, 3]), "expected two whole numbers in 'counts', found int64 of shape"),
        (np.array([100.0, 60.0]), "expected two whole numbers in 'counts', found float64"),
        (np.array([0, 0]), "found 0 of 0 correct"),
        (np.array([10, 11]), "found 11 of 10 correct"),
        (np.array([10, -1]), "found -1 of 10 correct"),
        (None, "expected two whole numbers in 'counts', found"),
    ],
)
def test_counts_that_are_none_are_refused(folder, counts, said):
    others = {} if counts is None else {"counts": counts}
    file = stored_as(folder, save({"weights": WEIGHTS, **others}))
    with pytest.raises(CheckpointError) as caught:
        folder.read_pretrained(file)
    assert said in str(caught.value)


def header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 100,
        (1 << 62).to_bytes(8, "little") + b"{}",
        header(b"{"),
        header(b"[" * 10_000),
        header(b'{"weights":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}'),
        header(b'{"weights":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],'
               b'"data_offsets":[0,0]}}'),
        header(b'{"weights":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}') + b"\x00\x00",
        header(b'{"weights":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}') + b"\x00",
        header(b'{"weights":{"dtype":"F32","shape":[0,9223372036854775807,4],'
               b'"data_offsets":[0,0]}}'),
        save({"weights": WEIGHTS, "velocity": WEIGHTS})[:-1],
    ],
    ids=range(12),
)  # fmt: skip
def test_what_is_no_safetensors_file_is_refused_in_one_line(folder, content):
    file = stored_as(folder, content)
    with pytest.raises(CheckpointError) as caught:
        folder.read_model(file)
    assert "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


def test_flipped_bits_in_arrays_never_do_more_than_change_them():
    """As if the checksum were forged each time: the parser itself has to stand it."""
    whole = pack_model(ModelVersion(weights=WEIGHTS, velocity=WEIGHTS))
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            found = unpack_model(bytes(damaged))
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:
            assert found.weights.shape == found.velocity.shape == (3,)
