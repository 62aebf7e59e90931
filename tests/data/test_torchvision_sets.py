import hashlib
import http.server
import pickle
import socket
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from idm_ray.config import DataConfig, RunConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.data.known import CIFAR10, FASHION_MNIST
from idm_ray.data.sources import find_source, locate, source_bytes
from idm_ray.errors import DataError
from idm_ray.resolving import absolute
from tests.data.making import images_of, write_tree

TRAIN, TEST = 30, 20


def pixels(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar10(root, patch):
    """Three images of each class in five batches and two to test, in torchvision's own files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        count = TEST if name == "test_batch" else TRAIN // 5
        rows = pixels(count, 3072, seed=number)
        labels = [(number * count + row) % 10 for row in range(count)]
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10)}))
    sums = {path.name: md5(path) for path in folder.iterdir()}
    train = [[name, sums[name]] for name in sorted(sums) if name.startswith("data")]
    patch.setattr(datasets.CIFAR10, "train_list", train)
    patch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    patch.setattr(datasets.CIFAR10, "meta", meta)
    return folder


def idx(array):
    """An array in MNIST's file format."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(root, kind="MNIST"):
    folder = root / kind / "raw"
    folder.mkdir(parents=True)
    for split, count in (("train", TRAIN), ("t10k", TEST)):
        images, labels = pixels(count, 28, 28, seed=count), np.arange(count) % 10
        (folder / f"{split}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def write_svhn(root, patch):
    root.mkdir(parents=True)
    split_list = dict(datasets.SVHN.split_list)
    for split, count in (("train", TRAIN), ("test", TEST)):
        path = root / f"{split}_32x32.mat"
        labels = (np.arange(count) % 10 + 1).reshape(-1, 1)  # in the file, 10 means the digit 0
        scipy.io.savemat(path, {"X": pixels(count, 32, 32, 3).transpose(1, 2, 3, 0), "y": labels})
        split_list[split] = [split_list[split][0], path.name, md5(path)]
    patch.setattr(datasets.SVHN, "split_list", split_list)


def opened(word, tmp_path, **options):
    places = {"data_root": str(tmp_path / "root"), "cache_dir": str(tmp_path / "cache")}
    return open_dataset(DataConfig(data=word, **places, **options))


@pytest.fixture
def refused():
    """The address of a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


@pytest.fixture
def served(tmp_path):
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Write nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_cifar10_is_read_from_torchvision_s_files(tmp_path, monkeypatch):
    write_cifar10(tmp_path / "root", monkeypatch)
    data = opened("cifar10", tmp_path)
    assert (data.info.name, data.info.known_as) == ("cifar10", "cifar10")
    assert data.info.class_names == CIFAR10
    assert data.info.train_counts == (3,) * 10
    assert data.info.test_counts == (2,) * 10
    first = pixels(TRAIN // 5, 3072, seed=0)[0].reshape(3, 32, 32)
    assert (images_of(data.train)[0] == first).all()


def test_mnist_is_grey_and_keeps_its_published_constants(tmp_path):
    write_mnist(tmp_path / "root")
    data = opened("mnist", tmp_path)
    assert data.info.image_shape == (1, 28, 28)
    assert data.info.class_names == tuple("0123456789")
    assert (data.info.mean, data.info.flips) == ((0.1307,), False)
    assert (images_of(data.train)[0, 0] == pixels(TRAIN, 28, 28, seed=TRAIN)[0]).all()
    assert (images_of(data.test)[2, 0] == pixels(TEST, 28, 28, seed=TEST)[1]).all()


def test_fashionmnist_has_its_class_names(tmp_path):
    write_mnist(tmp_path / "root", "FashionMNIST")
    data = opened("fashionmnist", tmp_path, classes="Ankle boot,T-shirt/top")
    assert data.info.class_names == (FASHION_MNIST[9], FASHION_MNIST[0])
    assert data.info.train_counts == (3, 3)
    assert data.info.known_as == "fashionmnist"


def test_svhn_s_tens_are_zeros(tmp_path, monkeypatch):
    write_svhn(tmp_path / "root", monkeypatch)
    data = opened("svhn", tmp_path, limit_per_class=2)
    assert data.info.train_counts == (2,) * 10
    rows = pixels(TRAIN, 32, 32, 3)
    assert (images_of(data.train)[0] == rows[9].transpose(2, 0, 1)).all()
    assert (images_of(data.train)[2] == rows[0].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    "word, file",
    [("cifar10", "data_batch_1"), ("mnist", "train-images"), ("svhn", "train_32x32.mat")],
)
def test_without_files_and_without_a_network_one_line_says_what_to_do(
    tmp_path, monkeypatch, refused, word, file
):
    monkeypatch.setattr(datasets.CIFAR10, "url", refused + "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.MNIST, "mirrors", [refused])
    split_list = {
        split: [refused + entry[1], *entry[1:]] for split, entry in datasets.SVHN.split_list.items()
    }
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    with pytest.raises(DataError) as caught:
        opened(word, tmp_path)
    text = str(caught.value)
    assert text.startswith(f"expected the files of {word} in {tmp_path / 'root'}, found not all")
    assert "refused" in text
    assert f"{file}" in text
    assert text.endswith("or give the folder that has them with --data-root")
    assert "\n" not in text
    assert socket.getdefaulttimeout() is None


def test_what_is_missing_is_downloaded_once(tmp_path, monkeypatch, served):
    folder, address = served
    made = write_cifar10(tmp_path / "made", monkeypatch)
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(made, made.name)
    monkeypatch.setattr(datasets.CIFAR10, "url", address + "cifar-10-python.tar.gz")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(folder / "cifar-10-python.tar.gz"))
    first = opened("cifar10", tmp_path)
    (folder / "cifar-10-python.tar.gz").unlink()
    again = opened("cifar10", tmp_path)
    assert first.info == again.info
    assert first.info.train_counts == (3,) * 10
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_a_damaged_file_is_downloaded_again(tmp_path, monkeypatch, served):
    folder, address = served
    write_svhn(tmp_path / "root", monkeypatch)
    split_list = {s: [address + e[1], *e[1:]] for s, e in datasets.SVHN.split_list.items()}
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    file = tmp_path / "root" / "train_32x32.mat"
    (folder / file.name).write_bytes(file.read_bytes())
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])  # as a killed download leaves it
    assert opened("svhn", tmp_path).info.train_counts == (3,) * 10
    assert file.read_bytes() == whole


def test_a_damaged_file_without_a_checksum_is_refused_in_one_line(tmp_path):
    folder = write_mnist(tmp_path / "root")
    file = folder / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(
        DataError, match=r"found damaged ones, and .*remove MNIST/raw/train.* and try"
    ):
        opened("mnist", tmp_path)


def test_labels_outside_of_the_classes_are_refused(tmp_path):
    folder = write_mnist(tmp_path / "root")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(np.full(TRAIN, 47)))
    with pytest.raises(DataError, match="labels do not fit 50 images of 10 classes"):
        opened("mnist", tmp_path)


def test_the_word_wins_and_a_path_names_the_folder(tmp_path, monkeypatch):
    write_tree(tmp_path / "cifar10")
    monkeypatch.chdir(tmp_path)
    assert find_source(DataConfig(data="cifar10")).known_as == "cifar10"
    assert find_source(DataConfig(data="./cifar10")).listing().class_names == ("ant", "bee")
    assert locate("cifar10") == "cifar10"
    assert locate("./cifar10") == str(tmp_path / "cifar10")


def test_naming_a_data_set_imports_and_downloads_nothing(tmp_path):
    source = find_source(DataConfig(data="mnist", data_root=str(tmp_path / "root")))
    assert source.is_random_access
    assert not (tmp_path / "root").exists()


def test_its_size_is_that_of_its_files(tmp_path):
    config = DataConfig(data="mnist", data_root=str(tmp_path / "root"))
    assert source_bytes(config) == 0
    write_mnist(tmp_path / "root")
    (tmp_path / "root" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"not counted")
    assert source_bytes(config) == (TRAIN + TEST) * (28 * 28 + 1) + 2 * 16 + 2 * 8


def test_every_process_finds_the_same_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = absolute(
        RunConfig.from_flat({"data": "svhn", "data_root": "sets", "cache_dir": "~/x"})
    )
    assert config.data.data == "svhn"
    assert config.data.data_root == str(tmp_path / "sets")
    assert "~" not in str(config.data.cache_dir)
