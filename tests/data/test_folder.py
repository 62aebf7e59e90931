import shutil

import numpy as np
import pytest
from PIL import Image

from idm_ray.errors import DataError
from tests.data.making import images_of, opened, picture, write_class, write_tree


def test_images_are_sorted_by_class_and_keep_their_order_in_it(tmp_path):
    data = opened(write_tree(tmp_path / "insects"), tmp_path / "cache")
    assert data.info.class_names == ("ant", "bee")
    assert data.info.train_counts == (3, 3)
    assert data.info.test_counts == (2, 2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = [np.asarray(picture(n)).transpose(2, 0, 1) for n in (0, 1, 2, 1000, 1001, 1002)]
    assert (images_of(data.train) == np.stack(expected)).all()


def test_a_plain_tree_is_split_by_test_fraction(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        write_class(tmp_path / "insects" / name, 10, first=100 * label)
    data = opened(tmp_path / "insects", tmp_path / "cache", test_fraction=0.3)
    assert data.info.train_counts == (7, 7)
    assert data.info.test_counts == (3, 3)
    assert data.info.name == "insects"
    half = opened(tmp_path / "insects", tmp_path / "cache", test_fraction=0.5)
    assert half.info.test_counts == (5, 5)


def test_nested_files_count_and_hidden_or_other_files_do_not(tmp_path):
    root = write_tree(tmp_path / "insects")
    write_class(root / "train" / "ant" / "2021" / "may", 2, first=77)
    write_class(root / "train" / "ant" / ".thumbnails", 2)
    write_class(root / "train" / ".ipynb_checkpoints", 2)
    shutil.copy(root / "train" / "ant" / "0000.png", root / "train" / "ant" / ".0000.png")
    (root / "train" / "ant" / "notes.txt").write_text("six legs")
    (root / "README.png").write_text("not an image of a class")
    data = opened(root, tmp_path / "cache")
    assert data.info.train_counts == (5, 3)
    assert data.info.skipped == 0


@pytest.mark.parametrize("suffix", ["JPEG", "jpg", "PNG", "webp", "bmp"])
def test_file_name_endings_are_known_in_any_case(tmp_path, suffix):
    root = write_tree(tmp_path / "insects")
    picture(5).save(root / "train" / "ant" / f"one.{suffix}")
    assert opened(root, tmp_path / "cache").info.train_counts == (4, 3)


def test_a_test_folder_is_preferred_to_a_validation_folder(tmp_path):
    root = write_tree(tmp_path / "insects")
    for name in ("ant", "bee"):
        write_class(root / "test" / name, 4)
    assert opened(root, tmp_path / "cache").info.test_counts == (4, 4)


def test_a_test_folder_without_classes_is_passed_over(tmp_path):
    root = write_tree(tmp_path / "insects")
    write_class(root / "test" / "unlabelled", 4)
    assert opened(root, tmp_path / "cache").info.test_counts == (2, 2)


def test_a_class_may_be_called_train(tmp_path):
    for name in ("car", "plane", "train"):
        write_class(tmp_path / "vehicles" / name, 5)
    data = opened(tmp_path / "vehicles", tmp_path / "cache")
    assert data.info.class_names == ("car", "plane", "train")


def test_links_are_followed_once(tmp_path):
    root = write_tree(tmp_path / "insects")
    (root / "train" / "wasp").symlink_to(root / "train" / "bee", target_is_directory=True)
    (root / "train" / "ant" / "loop").symlink_to(root, target_is_directory=True)
    data = opened(root, tmp_path / "cache")
    assert data.info.class_names == ("ant", "bee", "wasp")
    assert data.info.train_counts == (3, 3, 3)


def test_a_source_is_grey_only_if_all_of_it_is(tmp_path):
    root = write_tree(tmp_path / "insects", mode="L")
    grey = opened(root, tmp_path / "cache")
    assert grey.info.image_shape == (1, 8, 8)
    assert images_of(grey.train).shape == (6, 1, 8, 8)
    write_class(root / "val" / "bee", 1, first=999)
    mixed = opened(root, tmp_path / "cache")
    assert mixed.info.image_shape == (3, 8, 8)
    assert (images_of(mixed.train) == images_of(grey.train)).all()


def test_an_unreadable_image_is_left_out_and_counted(tmp_path):
    root = write_tree(tmp_path / "insects")
    (root / "train" / "ant" / "0001.png").write_bytes(b"not a PNG")
    (root / "train" / "bee" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    data = opened(root, tmp_path / "cache")
    assert data.info.skipped == 2
    assert "train/ant/0001.png" in data.info.unreadable[0]
    assert "train/bee/lost.png" in data.info.unreadable[1]
    assert data.info.train_counts == (2, 3)
    expected = [np.asarray(picture(n)).transpose(2, 0, 1) for n in (0, 2, 1000, 1001, 1002)]
    assert (images_of(data.train) == np.stack(expected)).all()


def test_a_decompression_bomb_is_left_out_and_counted(tmp_path, monkeypatch):
    root = write_tree(tmp_path / "insects")
    picture(1, width=50, height=50).save(root / "train" / "ant" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert (
        opened(root, tmp_path / "cache")
        .info.unreadable[0]
        .startswith("cannot read train/ant/huge.png: Image size (2500 pixels) exceeds limit")
    )


def test_only_unreadable_images_say_why(tmp_path):
    root = write_tree(tmp_path / "insects")
    for path in root.rglob("*.png"):
        path.write_bytes(b"not a PNG")
    with pytest.raises(DataError, match=r"none of 10 can be read \(cannot read train/ant/0000.png"):
        opened(root, tmp_path / "cache")


def test_a_class_of_unreadable_images_says_why(tmp_path):
    root = write_tree(tmp_path / "insects")
    for path in (root / "train" / "bee").iterdir():
        path.write_bytes(b"not a PNG")
    with pytest.raises(DataError, match=r"none of class 'bee'.*3 images were left out.*bee/1000"):
        opened(root, tmp_path / "cache")


def test_images_of_two_sizes_need_the_size_option(tmp_path):
    root = write_tree(tmp_path / "insects")
    picture(1, width=12, height=10).save(root / "train" / "ant" / "wide.png")
    with pytest.raises(DataError, match=r"found 8x8 and 12x10 \(train/ant/wide.png\): give --size"):
        opened(root, tmp_path / "cache")
    assert opened(root, tmp_path / "cache", size=6).info.image_shape == (3, 6, 6)


def test_a_limit_keeps_the_test_images(tmp_path):
    data = opened(write_tree(tmp_path / "insects"), tmp_path / "cache", limit_per_class=2)
    assert data.info.train_counts == (2, 2)
    assert data.info.test_counts == (2, 2)


def test_classes_that_only_the_validation_split_has_are_refused(tmp_path):
    root = write_tree(tmp_path / "insects")
    write_class(root / "val" / "cicada", 1)
    with pytest.raises(DataError, match=r"only classes of .*train, found 'cicada': add"):
        opened(root, tmp_path / "cache")


def test_a_training_folder_without_a_test_folder_is_refused(tmp_path):
    root = write_tree(tmp_path / "insects")
    shutil.rmtree(root / "val")
    with pytest.raises(DataError, match=r"found no class folders there: add them, or give .*train"):
        opened(root, tmp_path / "cache")


def test_an_empty_class_folder_is_refused(tmp_path):
    root = write_tree(tmp_path / "insects")
    (root / "train" / "cicada").mkdir()
    with pytest.raises(DataError, match="found none of class 'cicada'"):
        opened(root, tmp_path / "cache")


def test_one_class_alone_is_refused(tmp_path):
    write_class(tmp_path / "insects" / "ant", 5)
    with pytest.raises(DataError, match=r"two or more classes, found 1 \(ant\)"):
        opened(tmp_path / "insects", tmp_path / "cache")


def test_a_split_without_test_images_is_refused(tmp_path):
    root = write_tree(tmp_path / "insects")
    for path in (root / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="expected test images, found none"):
        opened(root, tmp_path / "cache")
