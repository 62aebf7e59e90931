import numpy as np
import pytest
import torch

from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.synthetic import num_start_images, start_from_noise, start_from_tiles
from tests import reference
from tests.algorithm.making import normal


def test_a_start_needs_a_real_image_for_every_tile_or_every_image_or_none():
    assert num_start_images("tiles", 10, 2) == 40
    assert num_start_images("tiles", 10, 3) == 90
    assert num_start_images("whole", 10, 2) == 10
    assert num_start_images("noise", 10, 2) == 0


def test_at_partition_2_each_tile_is_the_exact_2x2_mean_of_another_image():
    real = normal(8, 3, 8, 8)
    start = start_from_tiles(real, 2)
    assert start.shape == (2, 3, 8, 8)
    for n in range(2):
        for tile, (top, left) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
            image = real[4 * n + tile]
            mean = (
                image[:, ::2, ::2]
                + image[:, 1::2, ::2]
                + image[:, ::2, 1::2]
                + image[:, 1::2, 1::2]
            ) / 4
            torch.testing.assert_close(start[n, :, top : top + 4, left : left + 4], mean)


@pytest.mark.parametrize(
    ("size", "partition"), [((8, 8), 2), ((9, 6), 3), ((8, 7), 3), ((7, 9), 2)]
)
def test_the_start_from_tiles_equals_the_reference(size, partition):
    real = normal(2 * partition**2, 3, *size)
    images = real.numpy().reshape(2, partition**2, 3, *size)
    expected = np.stack([reference.start_from_tiles(part, partition) for part in images])
    np.testing.assert_allclose(start_from_tiles(real, partition), expected, atol=1e-13)


def test_rows_and_columns_of_no_tile_start_as_the_mean_colour():
    start = start_from_tiles(normal(9, 1, 8, 7), 3)
    assert (start[..., 6:, :] == 0).all()
    assert (start[..., :, 6:] == 0).all()
    assert (start[..., :6, :6] != 0).all()


def test_at_partition_1_the_start_is_the_real_images_in_storage_of_its_own():
    real = normal(3, 3, 5, 5)
    start = start_from_tiles(real, 1)
    assert start.equal(real)
    start.zero_()
    assert (real != 0).all()


def test_the_start_from_noise_is_standard_normal_and_follows_its_generator():
    noise = start_from_noise(50, (3, 16, 16), generator(0, "noise", 1))
    assert noise.shape == (50, 3, 16, 16)
    assert abs(noise.mean().item()) < 0.02
    assert abs(noise.std().item() - 1) < 0.02
    assert noise.equal(start_from_noise(50, (3, 16, 16), generator(0, "noise", 1)))
    assert not noise.equal(start_from_noise(50, (3, 16, 16), generator(0, "noise", 2)))
