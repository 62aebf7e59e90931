import io

import numpy as np
import pytest
from PIL import Image

from idm_ray.errors import CondensedSetError
from idm_ray.results.pictures import encode_png, to_picture, to_uint8

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def test_every_8_bit_value_comes_back_from_normalised_float32():
    original = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    mean, std = (np.float32(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    normalised = (original.astype(np.float32) / 255 - mean) / std
    np.testing.assert_array_equal(to_uint8(normalised, mean=MEAN, std=STD), original)


def test_values_outside_the_range_are_clipped():
    images = np.float32([[[[-100.0, 100.0]]]])
    np.testing.assert_array_equal(to_uint8(images, mean=(0.5,), std=(0.5,)), [[[[0, 255]]]])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_very_pixels(channels, mode):
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7)).astype(np.uint8)
    picture = Image.open(io.BytesIO(encode_png(image)))
    assert picture.mode == mode
    decoded = np.asarray(picture).reshape(5, 7, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(decoded, image)


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(
        CondensedSetError, match=r"expected images of 1 channel .* found 4; convert"
    ):
        to_picture(np.zeros((4, 2, 2), np.uint8))
