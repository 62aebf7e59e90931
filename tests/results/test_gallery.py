import os

import numpy as np
import pytest
from PIL import Image

from idm_ray.errors import CondensedSetError, UserError
from idm_ray.results.gallery import draw_gallery, write_gallery
from idm_ray.results.gallery_layout import MAX_SIDE_PX, choose_layout


def layout_for(num_classes, ipc, side):
    return choose_layout(
        num_classes=num_classes, ipc=ipc, image_size=(side, side), longest_name_px=44
    )


def noise(num_classes, ipc, shape=(3, 8, 8)):
    images = np.random.default_rng(0).random((num_classes * ipc, *shape), np.float32)
    return {
        "images": images,
        "labels": np.repeat(np.arange(num_classes), ipc),
        "class_names": [f"class {index}" for index in range(num_classes)],
        "mean": (0.0,) * shape[0],
        "std": (1.0,) * shape[0],
        "title": "noise",
    }


@pytest.mark.parametrize(("side", "drawn"), [(8, 64), (28, 112), (32, 96), (224, 224)])
def test_images_are_drawn_in_a_readable_size(side, drawn):
    assert layout_for(10, 1, side).tile == (drawn, drawn)


@pytest.mark.parametrize("side", [8, 32, 224])
def test_ten_classes_with_one_image_each_make_a_sheet_of_two_rows(side):
    layout = layout_for(10, 1, side)
    assert layout.columns == 5
    assert layout.is_sheet


def test_ten_images_per_class_make_a_row_for_each_class():
    layout = layout_for(10, 10, 32)
    assert (layout.columns, layout.per_line) == (1, 10)


def test_many_images_per_class_make_a_block_for_each_class():
    layout = layout_for(10, 50, 32)
    assert (layout.columns, layout.per_line) == (1, 25)


@pytest.mark.parametrize("num_classes", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("ipc", [1, 3, 10, 50])
@pytest.mark.parametrize("side", [8, 32, 224])
def test_no_picture_is_too_large_and_no_images_overlap(num_classes, ipc, side):
    layout = layout_for(num_classes, ipc, side)
    assert max(layout.size) <= MAX_SIDE_PX
    assert 1 <= layout.num_shown <= ipc
    assert min(layout.tile) >= min(side, 28)
    classes = {0, num_classes // 2, num_classes - 1}
    corners = np.array(
        [layout.tile_corner(index, rank) for index in classes for rank in range(layout.num_shown)]
    )
    assert (corners >= 0).all()
    assert (corners + layout.tile <= layout.size).all()
    apart = np.abs(corners[:, None] - corners) >= layout.tile
    assert (apart.any(axis=2) | np.eye(len(corners), dtype=bool)).all()


def test_pixels_are_enlarged_without_smoothing():
    arguments = noise(3, 1)
    picture = np.asarray(draw_gallery(**arguments))
    left, top = layout_for(3, 1, 8).tile_corner(1, 0)
    expected = np.rint(arguments["images"][1].transpose(1, 2, 0) * 255)
    block = expected.repeat(8, axis=0).repeat(8, axis=1)
    np.testing.assert_array_equal(picture[top : top + 64, left : left + 64], block)


def test_a_written_gallery_is_a_png_and_nothing_else_is_left(tmp_path):
    write_gallery(tmp_path / "gallery.png", **noise(10, 1, (1, 8, 8)))
    with Image.open(tmp_path / "gallery.png") as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert os.listdir(tmp_path) == ["gallery.png"]


def test_labels_may_come_in_any_order():
    arguments = noise(4, 3)
    order = np.array([3, 0, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11])
    shuffled = arguments | {name: arguments[name][order] for name in ("images", "labels")}
    assert draw_gallery(**shuffled).tobytes() == draw_gallery(**arguments).tobytes()


def test_classes_with_fewer_images_leave_their_places_empty():
    arguments = noise(2, 3)
    fewer = arguments | {name: arguments[name][:4] for name in ("images", "labels")}
    assert draw_gallery(**fewer).size == draw_gallery(**arguments).size


def test_a_long_title_and_long_names_stay_within_the_picture():
    picture = draw_gallery(**noise(1, 1) | {"title": "title " * 20, "class_names": ["name " * 50]})
    background = picture.getpixel((0, 0))
    pixels = np.asarray(picture)
    assert (pixels[:, -4:] == background).all()
    assert (pixels[:, :4] == background).all()


def test_no_image_at_all_is_refused():
    with pytest.raises(UserError, match="expected images for the gallery, found none"):
        draw_gallery(**noise(1, 0))


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(CondensedSetError, match="found 2"):
        draw_gallery(**noise(1, 1, (2, 8, 8)))
