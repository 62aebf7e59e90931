import numpy as np
import pytest

from idm_ray.config import DataConfig
from idm_ray.data.sources import find_source
from idm_ray.errors import DataError
from tests.data.making import opened, picture, write_class

NAMES = ("n01443537", "n01629819", "n02056570")


def write_images(folder, numbers, prefix):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number).save(folder / f"{prefix}{number}.JPEG")


@pytest.fixture
def root(tmp_path):
    """Three classes with three training images and two validation images each."""
    root = tmp_path / "tiny-imagenet-200"
    for label, name in enumerate(NAMES):
        folder = root / "train" / name
        write_images(folder / "images", range(100 * label, 100 * label + 3), f"{name}_")
        (folder / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t7\t7\n")
    write_images(root / "val" / "images", range(500, 506), "val_")
    lines = [f"val_{500 + n}.JPEG\t{NAMES[n % 3]}\t0\t0\t7\t7\n" for n in range(6)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write_images(root / "test" / "images", range(700, 704), "test_")
    (root / "wnids.txt").write_text("\n".join(reversed(NAMES)))
    (root / "words.txt").write_text("".join(f"{name}\tan animal\n" for name in NAMES))
    return root


def annotations(root):
    return root / "val" / "val_annotations.txt"


def test_validation_images_get_the_classes_of_the_annotations(root, tmp_path):
    data = opened(root, tmp_path / "cache")
    assert data.info.class_names == NAMES
    assert data.info.train_counts == (3, 3, 3)
    assert data.info.test_counts == (2, 2, 2)
    source = find_source(DataConfig(data=str(root)))
    listing = source.listing()
    rows = np.flatnonzero(listing.is_test & (listing.labels == 1))
    assert [image.name for image in source.read(rows)] == [
        "val/images/val_501.JPEG",
        "val/images/val_504.JPEG",
    ]
    assert source.is_random_access


def test_classes_and_limits_work_here_too(root, tmp_path):
    data = opened(root, tmp_path / "cache", classes=f"{NAMES[2]},{NAMES[0]}", limit_per_class=1)
    assert data.info.class_names == (NAMES[2], NAMES[0])
    assert data.info.train_counts == (1, 1)
    assert data.info.test_counts == (2, 2)


def test_the_whole_is_known_whatever_its_folder_is_called(root, tmp_path):
    assert find_source(DataConfig(data=str(root))).known_as is None
    for number in range(197):
        write_class(root / "train" / f"n1{number:07d}", 0)
    assert find_source(DataConfig(data=str(root))).known_as == "tinyimagenet"


def test_changed_annotations_are_another_cache(root, tmp_path):
    before = opened(root, tmp_path / "cache")
    text = annotations(root).read_text()
    annotations(root).write_text(
        text.replace(f"val_500.JPEG\t{NAMES[0]}", f"val_500.JPEG\t{NAMES[1]}")
    )
    after = opened(root, tmp_path / "cache")
    assert before.info.test_counts == (2, 2, 2)
    assert after.info.test_counts == (1, 3, 2)


def test_a_validation_folder_that_was_sorted_into_classes_is_a_plain_tree(root, tmp_path):
    for number in range(6):
        target = root / "val" / NAMES[number % 3] / f"val_{500 + number}.JPEG"
        target.parent.mkdir(exist_ok=True)
        (root / "val" / "images" / target.name).rename(target)
    (root / "val" / "images").rmdir()
    assert opened(root, tmp_path / "cache").info.test_counts == (2, 2, 2)


def lose_the_file(root):
    annotations(root).unlink()


def lose_a_line(root):
    lines = annotations(root).read_text().splitlines(keepends=True)
    annotations(root).write_text("".join(lines[1:]))


def garble_a_line(root):
    lines = annotations(root).read_text().splitlines()
    annotations(root).write_text("\n".join([*lines[:3], lines[3].replace("\t", " "), *lines[4:]]))


def repeat_a_line(root):
    text = annotations(root).read_text()
    annotations(root).write_text(text + text.splitlines()[2])


def name_another_class(root):
    annotations(root).write_text(annotations(root).read_text().replace(NAMES[1], "n99999999"))


def lose_an_image(root):
    (root / "val" / "images" / "val_502.JPEG").unlink()


def write_bytes(root):
    annotations(root).write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lose_the_file, r"found no such file: unpack the archive again"),
        (lose_a_line, r"a line for every image beside it, found none for 'val_500.JPEG': unpack"),
        (garble_a_line, r"found no file and class in 'val_503.JPEG n.*\(line 4\): unpack"),
        (repeat_a_line, r"found a second line for the file in 'val_502.JPEG.*\(line 7\)"),
        (name_another_class, r"only classes of .*train, found 'n99999999': add training images"),
        (lose_an_image, r"lines of images there are, found ones for 'val_502.JPEG': unpack"),
        (write_bytes, r"expected a text file, found other bytes in .*val_annotations.txt"),
    ],
)
def test_annotations_that_do_not_fit_are_refused_in_one_line(root, damage, message):
    damage(root)
    with pytest.raises(DataError, match=message) as caught:
        find_source(DataConfig(data=str(root)))
    assert "\n" not in str(caught.value)
