import io

import numpy as np
import pytest
from PIL import Image

from idm_ray.data.decode import UnreadableImageError, decode
from idm_ray.data.listing import EncodedImage
from tests.data.making import picture, png


def encoded(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG"} | options)
    return raw(buffer.getvalue())


def raw(data):
    return EncodedImage("a picture", lambda: data)


def test_an_rgb_image_keeps_its_pixels():
    image = picture(1, width=5, height=3)
    pixels = decode(encoded(image), None)
    assert (pixels == np.asarray(image).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_a_grey_image_has_one_channel(mode):
    assert decode(encoded(picture(1, mode=mode)), None).shape == (1, 8, 8)


def test_sixteen_bits_are_scaled_to_eight():
    wide = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    pixels = decode(encoded(Image.fromarray(wide)), None)
    assert pixels.tolist() == [[[0, 1, 128, 255]]]


def test_a_palette_becomes_its_colours():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert decode(encoded(image), None)[:, 0, :].T.tolist() == [[255, 0, 0], [0, 0, 255]]


def test_ink_becomes_light():
    image = Image.new("CMYK", (1, 1), (0, 255, 255, 0))
    red, green, blue = decode(encoded(image, format="TIFF"), None)[:, 0, 0].tolist()
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("mode, channels", [("RGBA", 3), ("LA", 1)])
def test_transparent_pixels_show_white(mode, channels):
    image = Image.new(mode, (2, 1), (*[0] * (len(mode) - 1), 0))
    image.putpixel((1, 0), (*[10] * (len(mode) - 1), 255))
    assert decode(encoded(image), None)[:, 0, :].tolist() == [[255, 10]] * channels


def test_a_photograph_is_turned_upright():
    image = Image.fromarray(np.array([[0, 100, 200]], dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert decode(encoded(image, exif=exif), None).tolist() == [[[0], [100], [200]]]


def test_the_shorter_side_is_resized_and_the_centre_cut_out():
    image = picture(3, width=20, height=8)
    pixels = decode(encoded(image), 4)
    expected = image.resize((10, 4), Image.Resampling.BILINEAR).crop((3, 0, 7, 4))
    assert (pixels == np.asarray(expected).transpose(2, 0, 1)).all()


def test_an_image_of_the_right_height_is_only_cropped():
    image = picture(3, width=9, height=8)
    assert (decode(encoded(image), 8) == np.asarray(image)[:, :8].transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    "data", [b"", b"hello", png(picture(1))[:60], png(picture(1))[:-30]], ids=repr
)
def test_damaged_bytes_are_an_unreadable_image(data):
    with pytest.raises(UnreadableImageError, match="cannot read a picture"):
        decode(raw(data), None)


@pytest.mark.parametrize("limit", [10, 40], ids=["over twice the limit", "over the limit"])
def test_a_decompression_bomb_is_an_unreadable_image(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadableImageError, match="decompression bomb"):
        decode(raw(png(picture(1))), None)


def test_floating_point_pixels_are_refused():
    image = Image.fromarray(np.ones((2, 2), dtype=np.float32))
    with pytest.raises(UnreadableImageError, match="floating-point"):
        decode(encoded(image, format="TIFF"), None)
