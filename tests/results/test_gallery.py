import os
from itertools import chain

import numpy as np
import pytest
from PIL import Image

from idm_ray.errors import CondensedSetError, UserError
from idm_ray.results.gallery import draw_gallery, write_gallery
from idm_ray.results.gallery_drawing import _font, _wrapped, draw
from idm_ray.results.gallery_layout import (
    MAX_SIDE_PX,
    Facts,
    choose_layout,
    choose_page,
    lacks_something,
)
from idm_ray.results.pictures import to_uint8


def layout_for(num_classes, ipc, side):
    return choose_layout(facts_of(num_classes, ipc, side))


def facts_of(num_classes, ipc, side):
    return Facts(num_classes=num_classes, ipc=ipc, image_size=(side, side), longest_name_px=44)


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
    assert min(layout.tile) >= 28
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


# --- Pages ---


@pytest.mark.parametrize("num_classes", [1, 10, 1000])
@pytest.mark.parametrize("ipc", [1, 10, 50, 1000])
@pytest.mark.parametrize("side", [8, 32, 224])
def test_a_page_is_as_full_as_possible_with_images_in_their_own_size(num_classes, ipc, side):
    page = choose_page(facts_of(num_classes, ipc, side))
    assert max(page.size) <= MAX_SIDE_PX
    assert min(page.tile) >= max(side, 64)
    assert 1 <= page.num_shown <= ipc
    # A class is cut only if it alone does not fit.
    assert page.num_shown == ipc or page.num_classes == 1
    assert page.num_classes == num_classes or page.num_classes * page.num_shown > 150


@pytest.mark.parametrize(
    ("num_classes", "ipc", "side", "lacks"),
    [
        *((10, 10, 32, False), (100, 50, 32, False), (200, 10, 64, False), (10, 10, 224, False)),
        *((1000, 1, 224, True), (1000, 10, 64, True), (1000, 50, 8, True)),
    ],
)
def test_there_are_pages_where_images_are_missing_or_reduced(num_classes, ipc, side, lacks):
    facts = facts_of(num_classes, ipc, side)
    assert lacks_something(choose_layout(facts), facts) == lacks


@pytest.fixture
def small_pages(monkeypatch):
    """Pictures that hold little, so that few images fill them."""
    monkeypatch.setattr("idm_ray.results.gallery_layout.MAX_SIDE_PX", 400)


def pages_of(folder):
    return sorted(os.listdir(folder / "gallery"))


def drawn_in(path, arguments):
    """Which of the images of 64 x 64 pixels a picture shows as they are."""
    pixels = np.asarray(Image.open(path))
    expected = to_uint8(arguments["images"], mean=(0,), std=(1,)).transpose(0, 2, 3, 1)
    return [
        number
        for number, image in enumerate(expected)
        if any(
            np.array_equal(pixels[y : y + 64, x : x + 64], image)
            for y, x in np.argwhere((pixels == image[0, 0]).all(axis=2))
        )
    ]


def test_pages_show_every_image_once_and_keep_classes_together(tmp_path, small_pages):
    arguments = noise(7, 3, (3, 64, 64))
    write_gallery(tmp_path / "gallery.png", **arguments)
    names = pages_of(tmp_path)
    assert names == [f"page-{number:03d}.png" for number in range(1, len(names) + 1)]
    shown = [drawn_in(tmp_path / "gallery" / name, arguments) for name in names]
    assert [*chain(*shown)] == [*range(21)]
    assert len(shown) > 1
    assert all(len(page) % 3 == 0 for page in shown)


def test_a_class_that_does_not_fit_alone_takes_several_pages(tmp_path, small_pages):
    arguments = noise(2, 30, (3, 64, 64))
    write_gallery(tmp_path / "gallery.png", **arguments)
    shown = [drawn_in(tmp_path / "gallery" / name, arguments) for name in pages_of(tmp_path)]
    assert [*chain(*shown)] == [*range(60)]
    assert all({number // 30 for number in page} in ({0}, {1}) for page in shown)


def test_titles_say_where_everything_is_and_which_page_it_is(tmp_path, small_pages, monkeypatch):
    titles = []

    def noted(*arguments, title):
        titles.append(title)
        return draw(*arguments, title=title)

    monkeypatch.setattr("idm_ray.results.gallery.draw", noted)
    write_gallery(tmp_path / "gallery.png", **noise(7, 3, (3, 64, 64)))
    *pages, overview = titles
    assert pages == [f"noise, page {n} of {len(pages)}" for n in range(1, len(pages) + 1)]
    assert overview == "noise, all images: gallery/"


def test_pages_of_an_earlier_gallery_are_removed_and_nothing_else(tmp_path, small_pages):
    write_gallery(tmp_path / "gallery.png", **noise(40, 3, (3, 64, 64)))
    many = pages_of(tmp_path)
    (tmp_path / "gallery" / ".page-001.png.0123abcd.tmp").write_text("half")
    (tmp_path / "gallery" / "notes.txt").write_text("mine")
    write_gallery(tmp_path / "gallery.png", **noise(7, 3, (3, 64, 64)))
    few = pages_of(tmp_path)
    assert few[0] == "notes.txt"
    assert few[1:] == many[: len(few) - 1] != many
    write_gallery(tmp_path / "gallery.png", **noise(2, 1))
    assert pages_of(tmp_path) == ["notes.txt"]
    (tmp_path / "gallery" / "notes.txt").unlink()
    write_gallery(tmp_path / "gallery.png", **noise(2, 1))
    assert os.listdir(tmp_path) == ["gallery.png"]


# --- Names ---


def test_long_names_are_broken_between_words_and_then_cut():
    font = _font(13)
    assert _wrapped("hen", 100, 3, font) == "hen"
    assert _wrapped("West Highland white terrier", 100, 3, font) == "West Highland\nwhite terrier"
    lines = _wrapped("word " * 40, 100, 3, font).split("\n")
    assert [line.endswith("...") for line in lines] == [False, False, True]
    assert _wrapped("a" * 100 + " b", 100, 2, font).split("\n")[0].endswith("...")


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
