import dataclasses
import hashlib
import resource
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from idm_ray.errors import DataError
from idm_ray.pretrained import pretrained_network
from tests.making_runs import plan_of

OPTIONS = {"pretrained": 2, "pretrain_steps": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where the networks of a test are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "idm_ray" / "pretrained"


@pytest.fixture
def plan(folder):
    return plan_of(**OPTIONS)[0]


def files(folder):
    """Networks that are kept, and what does not belong there."""
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock")


def same(one, other):
    return one.weights.tobytes() == other.weights.tobytes() and (one.images, one.correct) == (
        other.images,
        other.correct,
    )


def test_a_network_is_trained_once_and_then_read_bit_for_bit(plan, folder):
    trained, first = pretrained_network(plan, 0)
    read, second = pretrained_network(plan, 0)
    assert (first.cached, second.cached) == (False, True)
    assert same(trained, read)
    assert first.seconds > 0
    names = ("member", "steps", "accuracy", "obstacle")
    for name in names:
        assert getattr(first, name) == getattr(second, name)
    assert (first.member, first.steps, first.obstacle) == (0, 3, "")
    assert first.accuracy == trained.accuracy
    assert trained.images == 3 * 32
    assert len(files(folder)) == 1


def test_the_file_is_arrays_that_numpy_reads_and_their_checksum(plan, folder):
    network, _ = pretrained_network(plan, 1)
    (path,) = files(folder)
    assert np.load(path).tobytes() == network.weights.tobytes()
    content = path.read_bytes()
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]


def test_whatever_decides_the_bits_has_a_file_of_its_own(plan, folder):
    plans = [plan]
    changes = [{"seed": 1}, {"pretrain_steps": 2}, {"batch_train": 16}, {"lr_net": 0.02}]
    changes += [{"network": "convnet-1"}, {"limit_per_class": 19}]
    plans += [plan_of(**OPTIONS | change)[0] for change in changes]
    numerics = [{"precision": "bfloat16"}, {"images_per_pass": 7}, {"threads": 2}]
    plans += [
        dataclasses.replace(plan, numerics=dataclasses.replace(plan.numerics, **change))
        for change in numerics
    ]
    for other in plans:
        assert not pretrained_network(other, 0)[1].cached
    assert not pretrained_network(plan, 1)[1].cached
    assert len(files(folder)) == len(plans) + 1


def test_what_does_not_touch_a_network_s_training_shares_its_file(plan):
    pretrained_network(plan, 1)
    changes = {
        "pretrained": 7,
        "pretrained_classes": 3,
        "ipc": 5,
        "queue_size": 9,
        "push_interval": 4,
    }
    other = plan_of(**OPTIONS | changes)[0]
    assert pretrained_network(other, 1)[1].cached


def test_a_set_told_in_epochs_is_that_of_as_many_steps():
    # 200 images in batches of 32.
    plans = [plan_of(**OPTIONS | {"pretrain_steps": told})[0] for told in ("2 epochs", 14)]
    first, second = (pretrained_network(plan, 0)[1] for plan in plans)
    assert (first.steps, first.cached, second.cached) == (14, False, True)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-100])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"more")


def empty(path):
    path.write_bytes(b"")


def flip_a_weight(path):
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def flip_the_checksum(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def swap_type(path):
    with_checksum(path, np.load(path).astype(np.float64), np.array([96, 5]))


def lose_weights(path):
    with_checksum(path, np.load(path)[1:], np.array([96, 5]))


def lose_the_counts(path):
    with_checksum(path, np.load(path))


def put_a_text(path):
    content = b"weights"
    path.write_bytes(content + hashlib.sha256(content).digest())


def with_checksum(path, *arrays):
    with path.open("wb") as file:
        for array in arrays:
            np.save(file, array)
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())


@pytest.mark.parametrize(
    "damage",
    [
        shorten,
        lengthen,
        empty,
        flip_a_weight,
        flip_the_checksum,
        swap_type,
        lose_weights,
        lose_the_counts,
        put_a_text,
    ],
)
def test_a_damaged_file_is_trained_again(plan, folder, damage):
    network, _ = pretrained_network(plan, 0)
    damage(files(folder)[0])
    again, report = pretrained_network(plan, 0)
    assert not report.cached
    assert same(network, again)
    assert pretrained_network(plan, 0)[1].cached


def test_a_pickle_with_a_right_checksum_runs_nothing(plan, folder, tmp_path):
    network, _ = pretrained_network(plan, 0)
    (path,) = files(folder)
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        # Whoever unpickles these lines calls os.mkdir on the folder they name.
        file.write(f"cos\nmkdir\n(S'{tmp_path / 'ran'}'\ntR.".encode())
    content = path.read_bytes()
    path.write_bytes(content + hashlib.sha256(content).digest())
    again, report = pretrained_network(plan, 0)
    assert not (tmp_path / "ran").exists()
    assert not report.cached
    assert same(network, again)


def test_whoever_comes_second_waits_and_reads(plan, folder):
    barrier = Barrier(2)

    def ask(_):
        barrier.wait()
        return pretrained_network(plan, 0)

    with ThreadPoolExecutor(2) as pool:
        (one, first), (other, second) = pool.map(ask, range(2))
    assert sorted([first.cached, second.cached]) == [False, True]
    assert same(one, other)
    assert len(files(folder)) == 1


def test_a_folder_that_cannot_be_written_to_costs_the_next_run_time_and_this_one_nothing(
    plan, folder
):
    expected, _ = pretrained_network(plan_of(**OPTIONS | {"pretrained": 3})[0], 0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("")
    network, report = pretrained_network(plan, 0)
    assert same(network, expected)
    assert (report.cached, report.obstacle) == (False, f"{folder}: Not a directory")


def test_a_full_disk_leaves_no_file_and_the_network_is_used(plan, folder):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        network, report = pretrained_network(plan, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert report.obstacle == f"{folder}: File too large"
    assert files(folder) == []
    again, report = pretrained_network(plan, 0)
    assert not report.cached
    assert same(network, again)


def test_other_data_than_the_plan_s_are_refused(plan):
    other = dataclasses.replace(plan.info, fingerprint="0" * 64)
    with pytest.raises(DataError, match="is not the same on node"):
        pretrained_network(dataclasses.replace(plan, info=other), 0)
