import os
from pathlib import Path

import numpy as np
import pytest

from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from idm_ray.data.known import CIFAR10
from tests.data.making import images_of

ROOT = os.environ.get("IDM_RAY_TEST_DATA")

pytestmark = pytest.mark.skipif(
    ROOT is None, reason="IDM_RAY_TEST_DATA does not name a folder with cifar10 and imagenette224"
)


def open_real(name, cache, **options):
    return open_dataset(
        DataConfig(data=str(Path(str(ROOT)) / name), cache_dir=str(cache), **options)
    )


def test_cifar10_is_read_and_recognised(tmp_path):
    data = open_real("cifar10", tmp_path, limit_per_class=50)
    assert data.info.known_as == "cifar10"
    assert data.info.class_names == CIFAR10
    assert data.info.train_counts == (50,) * 10
    assert data.info.test_counts == (1000,) * 10
    assert data.info.skipped == 0
    means = images_of(data.test).mean(axis=(0, 2, 3)) / 255
    assert means == pytest.approx((0.4942, 0.4851, 0.4504), abs=1e-3)


def test_imagenette_mixes_grey_and_colour(tmp_path):
    data = open_real("imagenette224", tmp_path, limit_per_class=20, size=64)
    assert data.info.known_as is None
    assert data.info.image_shape == (3, 64, 64)
    assert data.info.train_counts == (20,) * 10
    assert data.info.test_counts == (60,) * 10
    grey = (np.ptp(images_of(data.test), axis=1) == 0).all(axis=(1, 2))
    assert 0 < grey.sum() < len(grey)
