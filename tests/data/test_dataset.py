import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from tests.data.making import images_of, opened, picture, write_tree


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return open_dataset(DataConfig(cache_dir=str(tmp_path_factory.mktemp("cache"))))


def test_digits_have_a_fixed_stratified_split(digits):
    info = digits.info
    assert (info.source, info.name, info.known_as) == ("digits", "digits", "digits")
    assert info.class_names == tuple("0123456789")
    assert info.image_shape == (1, 8, 8)
    assert sum(info.train_counts) == 1438
    assert sum(info.test_counts) == 359
    for train, test in zip(info.train_counts, info.test_counts, strict=True):
        assert test / (train + test) == pytest.approx(0.2, abs=0.01)
    assert info.fingerprint.startswith("7d70f34512b711de")


def test_digits_use_the_whole_range_and_must_not_be_mirrored(digits):
    assert not digits.info.flips
    assert (images_of(digits.train).min(), images_of(digits.train).max()) == (0, 255)
    assert len(np.unique(images_of(digits.train))) == 17


def test_computed_statistics_are_those_of_the_training_images(digits):
    pixels = images_of(digits.train) / 255
    assert digits.info.mean == (pytest.approx(pixels.mean(), abs=5.1e-5),)
    assert digits.info.std == (pytest.approx(pixels.std(), abs=5.1e-5),)


def test_labels_offsets_and_rows_of_a_split_agree(digits):
    for split in (digits.train, digits.test):
        assert split.labels.dtype == np.int64
        assert len(split.labels) == len(split.images) == split.offsets[-1]
        for c in range(digits.info.num_classes):
            assert (split.labels[split.class_rows(c)] == c).all()
            assert len(split.class_rows(c)) == (split.labels == c).sum()


def test_images_are_taken_in_any_order_as_copies(digits):
    rows = np.array([5, 3, 5, 1000])
    taken = digits.train.images.take(rows)
    assert (taken.shape, taken.dtype) == ((4, 1, 8, 8), np.uint8)
    assert (taken == images_of(digits.train)[rows]).all()
    taken[:] = 77
    assert (digits.train.images.take(rows) != taken).any()


def test_a_constant_channel_has_deviation_one(tmp_path):
    for name in ("ant", "bee"):
        folder = tmp_path / "insects" / name
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = np.array(picture(number))
            pixels[..., 2] = 51
            Image.fromarray(pixels).save(folder / f"{number}.png")
    info = opened(tmp_path / "insects", tmp_path / "cache").info
    assert info.mean[2] == 0.2
    assert info.std[2] == 1.0
    assert info.std[0] < 0.5


def test_a_known_data_set_gets_its_published_normalisation(tmp_path):
    for label in range(10):
        folder = tmp_path / "CIFAR-10" / str(label)
        folder.mkdir(parents=True)
        for number in range(2):
            picture(10 * label + number, width=32, height=32).save(folder / f"{number}.png")
    info = opened(tmp_path / "CIFAR-10", tmp_path / "cache").info
    assert info.known_as == "cifar10"
    assert info.mean == (0.4914, 0.4822, 0.4465)
    assert info.std == (0.2023, 0.1994, 0.2010)
    assert info.flips


def test_the_fingerprint_is_that_of_the_images_wherever_they_are(tmp_path):
    first = opened(write_tree(tmp_path / "insects"), tmp_path / "cache")
    shutil.copytree(tmp_path / "insects", tmp_path / "elsewhere" / "bugs")
    second = opened(tmp_path / "elsewhere" / "bugs", tmp_path / "other cache")
    assert first.info.fingerprint == second.info.fingerprint
    assert len(first.info.fingerprint) == 64
    assert second.info.name == "bugs"


def test_the_fingerprint_changes_with_pixels_labels_and_class_names(tmp_path):
    root = write_tree(tmp_path / "insects")
    found = {opened(root, tmp_path / "cache").info.fingerprint}
    picture(88).save(root / "train" / "ant" / "0000.png")
    found.add(opened(root, tmp_path / "cache").info.fingerprint)
    (root / "train" / "ant" / "0002.png").rename(root / "train" / "bee" / "0000.png")
    found.add(opened(root, tmp_path / "cache").info.fingerprint)
    for split in ("train", "val"):
        (root / split / "bee").rename(root / split / "wasp")
    found.add(opened(root, tmp_path / "cache").info.fingerprint)
    assert len(found) == 4


def test_nothing_here_needs_torch_or_ray():
    code = (
        "import sys, idm_ray.data.dataset, idm_ray.data.sampling;"
        "print(sorted({'torch', 'ray', 'sklearn'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
