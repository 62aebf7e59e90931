import numpy as np

from idm_ray.bench.random_images import write_random_images
from idm_ray.config import DataConfig
from idm_ray.data.dataset import open_dataset
from tests.data.making import images_of


def test_the_product_reads_them_in_their_shape(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    write_random_images(images, image_size=(8, 12), num_classes=3, images_per_class=5)
    dataset = open_dataset(DataConfig(data=str(images), cache_dir=str(tmp_path / "cache")))
    assert dataset.info.image_shape == (3, 8, 12)
    assert dataset.info.train_counts == (5, 5, 5)
    assert dataset.info.skipped == 0
    # Lossless noise: all values, no two images alike.
    pixels = images_of(dataset.train)
    assert len(np.unique(pixels)) == 256
    assert len(np.unique(pixels.reshape(15, -1), axis=0)) == 15
