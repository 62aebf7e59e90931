import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from idm_ray.errors import DataError
from tests.data.making import images_of, opened, picture, png, write_parquet, write_sharded

NAMES = ("cat", "dog")


def as_array(number):
    return np.asarray(picture(number)).transpose(2, 0, 1)


def test_rows_are_sorted_by_label_and_splits_come_from_file_names(tmp_path):
    root = tmp_path / "pets"
    write_parquet(root / "data" / "train-00000-of-00002.parquet", [1, 0, 1, 0], class_names=NAMES)
    write_parquet(root / "data" / "train-00001-of-00002.parquet", [1], class_names=NAMES)
    write_parquet(root / "data" / "test-00000-of-00001.parquet", [1, 0], class_names=NAMES)
    data = opened(root, tmp_path / "cache")
    assert data.info.name == "pets"
    assert data.info.class_names == NAMES
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert (images_of(data.train) == np.stack([as_array(n) for n in (1, 3, 0, 2, 0)])).all()
    assert (images_of(data.test) == np.stack([as_array(n) for n in (1, 0)])).all()


def test_a_test_file_is_preferred_to_a_validation_file(tmp_path):
    for split, count in (("train", 6), ("validation", 4), ("test", 2)):
        write_parquet(tmp_path / "pets" / split / "0000.parquet", [0, 1] * (count // 2))
    data = opened(tmp_path / "pets", tmp_path / "cache")
    assert data.info.train_counts == (3, 3)
    assert data.info.test_counts == (1, 1)


def test_a_validation_file_will_do(tmp_path):
    write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    write_parquet(tmp_path / "pets" / "val-0.parquet", [0, 1, 1])
    assert opened(tmp_path / "pets", tmp_path / "cache").info.test_counts == (1, 2)


def test_one_file_is_split_by_test_fraction(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 10)
    data = opened(path, tmp_path / "cache")
    assert data.info.name == "pets"
    assert data.info.train_counts == (8, 8)
    assert data.info.test_counts == (2, 2)


def test_a_limit_reads_rows_spread_over_the_file(tmp_path):
    path = write_parquet(tmp_path / "train.parquet", [0, 1] * 10)
    whole = opened(path, tmp_path / "cache")
    some = opened(path, tmp_path / "cache", limit_per_class=4)
    assert (images_of(some.train)[:4] == images_of(whole.train, [0, 2, 4, 6])).all()
    assert (images_of(some.test) == images_of(whole.test)).all()


def test_strings_are_labels_in_sorted_order(tmp_path):
    write_parquet(tmp_path / "pets" / "train.parquet", ["dog", "cat", "cow"])
    write_parquet(tmp_path / "pets" / "test.parquet", ["dog"])
    data = opened(tmp_path / "pets", tmp_path / "cache")
    assert data.info.class_names == ("cat", "cow", "dog")
    assert data.info.test_counts == (0, 0, 1)
    assert (images_of(data.train) == np.stack([as_array(n) for n in (1, 2, 0)])).all()


def test_dictionary_encoded_strings_are_labels_too(tmp_path):
    table = pa.table(
        {
            "photo": [png(picture(number)) for number in range(6)],
            "kind": pa.array(["dog", "cat"] * 3).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "pets.parquet")
    data = opened(tmp_path / "pets.parquet", tmp_path / "cache")
    assert data.info.class_names == ("cat", "dog")


def test_the_column_called_label_is_taken_among_several(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 3, more={"weight": range(6)})
    assert opened(path, tmp_path / "cache").info.num_classes == 2


def test_the_finer_label_is_taken(tmp_path):
    table = pa.table(
        {
            "img": [png(picture(number)) for number in range(8)],
            "coarse_label": [0, 1] * 4,
            "fine_label": [0, 1, 2, 3] * 2,
        }
    )
    pq.write_table(table, tmp_path / "pets.parquet")
    assert opened(tmp_path / "pets.parquet", tmp_path / "cache").info.num_classes == 4


def test_a_row_without_an_image_is_left_out(tmp_path):
    images = [png(picture(number)) for number in range(8)]
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 4, images=[None, *images[1:]])
    data = opened(path, tmp_path / "cache")
    assert data.info.skipped == 1
    assert "pets.parquet, row group 0, row 0: no image" in data.info.unreadable[0]


def test_a_row_that_is_no_image_is_named_in_words(tmp_path):
    images = [png(picture(number)) for number in range(8)]
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 4, images=[*images[:7], b"hello"])
    (problem,) = opened(path, tmp_path / "cache").info.unreadable
    assert problem == "cannot read pets.parquet, row group 2, row 1: not an image"


@pytest.mark.parametrize("labels", [[0, 1, 2] * 3, [0, 1, -1] * 3])
def test_labels_outside_the_classes_are_refused(tmp_path, labels):
    path = write_parquet(tmp_path / "pets.parquet", labels, class_names=NAMES)
    with pytest.raises(DataError, match=r"expected labels 0..1 in .*, found (0..2|-1..1): correct"):
        opened(path, tmp_path / "cache")


def test_a_number_without_images_is_a_class_without_images(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 2] * 3)
    with pytest.raises(DataError, match="training images of every class, found none of class '1'"):
        opened(path, tmp_path / "cache")


def test_numbers_without_images_are_all_told_of_and_can_be_left_out(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [5, 9] * 3)
    with pytest.raises(
        DataError, match="none of classes '0', '1', '2' and 5 more: add images, or leave them out"
    ):
        opened(path, tmp_path / "cache")
    assert opened(path, tmp_path / "cache", classes="9,5").info.class_names == ("9", "5")


@pytest.mark.parametrize(
    "largest, kind", [(10**6, pa.int64()), (10**9, pa.int32()), (2**63 + 5, pa.uint64())], ids=str
)
def test_identifiers_are_no_labels_and_take_no_memory(tmp_path, largest, kind):
    path = write_parquet(tmp_path / "pets.parquet", pa.array([0, largest] * 3, kind))
    with pytest.raises(
        DataError,
        match=rf"labels 0..C-1 in {path}, found 2 different ones up to {largest}: number the",
    ):
        opened(path, tmp_path / "cache")


@pytest.mark.parametrize(
    "labels, kind",
    [([0.0, 1.0], "double"), ([True, False], "bool"), ([[0], [1]], "list<.*>"), ([None], "null")],
    ids=str,
)
def test_labels_that_are_neither_integers_nor_strings_are_refused(tmp_path, labels, kind):
    path = write_parquet(tmp_path / "pets.parquet", labels * 3)
    with pytest.raises(
        DataError,
        match=rf"integers or strings in the label column 'label' of {path}, found {kind}: convert",
    ):
        opened(path, tmp_path / "cache")


def test_rows_without_a_label_are_refused(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 1, None, 1])
    with pytest.raises(DataError, match=r"a label in every row of .*, found 1 rows without"):
        opened(path, tmp_path / "cache")


def test_strings_in_one_file_and_numbers_in_another_are_refused(tmp_path):
    write_parquet(tmp_path / "pets" / "train.parquet", [0, 1])
    write_parquet(tmp_path / "pets" / "test.parquet", ["cat", "dog"])
    with pytest.raises(DataError, match="expected labels of one type"):
        opened(tmp_path / "pets", tmp_path / "cache")


def test_several_possible_label_columns_are_refused(tmp_path):
    table = pa.table({"image": [png(picture(0))] * 2, "size": [0, 1], "colour": [0, 1]})
    pq.write_table(table, tmp_path / "pets.parquet")
    with pytest.raises(DataError, match=r"one label column .*, found size, colour: name one with"):
        opened(tmp_path / "pets.parquet", tmp_path / "cache")


@pytest.fixture
def two_labels(tmp_path):
    """Six images with two columns that could be their labels, and one that could not."""
    images = [png(picture(number)) for number in range(6)]
    columns = {"size": [0, 1] * 3, "colour": ["red", "green", "blue"] * 2, "weight": [0.5] * 6}
    pq.write_table(pa.table({"image": images} | columns), tmp_path / "pets.parquet")
    return tmp_path / "pets.parquet"


def test_the_label_column_can_be_named_and_each_has_its_own_cache(two_labels, tmp_path):
    for name, classes in (("size", ("0", "1")), ("colour", ("blue", "green", "red"))):
        data = opened(two_labels, tmp_path / "cache", label_column=name, test_fraction=0.5)
        assert data.info.class_names == classes


def test_the_label_column_that_is_named_wins_over_the_one_that_is_called_so(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 6, more={"breed": [0, 1, 2] * 4})
    assert opened(path, tmp_path / "cache", label_column="breed").info.num_classes == 3


@pytest.mark.parametrize(
    "name, message",
    [
        ("color", "the label column 'color' in .*, found size, colour: did you mean 'colour'"),
        ("kind", "the label column 'kind' in .*, found size, colour: name another with --label-c"),
        ("weight", "'weight' of .*, found double: convert it, or name another .size, colour. with"),
        ("image", "'image' of .*, found binary: convert it, or name another .size, colour. with"),
    ],
)
def test_a_label_column_that_cannot_be_is_refused(two_labels, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        opened(two_labels, tmp_path / "cache", label_column=name)


def test_shards_are_written_by_the_label_column_that_is_named(two_labels, tmp_path):
    out = write_sharded(two_labels, tmp_path / "shards", label_column="colour", test_fraction=0.5)
    assert opened(out, tmp_path / "cache").info.class_names == ("blue", "green", "red")


@pytest.mark.parametrize("columns, found", [({}, "none: add one"), ({"a": [], "b": []}, "a, b: ")])
def test_several_possible_image_columns_or_none_are_refused(tmp_path, columns, found):
    images = {name: [png(picture(number)) for number in range(2)] for name in columns}
    pq.write_table(pa.table({"label": [0, 1]} | images), tmp_path / "pets.parquet")
    with pytest.raises(DataError, match=rf"one image column .*, found {found}"):
        opened(tmp_path / "pets.parquet", tmp_path / "cache")


def test_a_damaged_file_is_refused_in_one_line(tmp_path):
    path = write_parquet(tmp_path / "pets.parquet", [0, 1] * 4)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"pets.parquet unreadable \(.*\): copy it again") as caught:
        opened(path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split, missing", [("train", "test"), ("test", "train")])
def test_a_folder_with_one_split_only_is_refused(tmp_path, split, missing):
    write_parquet(tmp_path / "pets" / f"{split}-0.parquet", [0, 1])
    with pytest.raises(DataError, match=rf"expected {missing}-\*.parquet .*, found none: add it"):
        opened(tmp_path / "pets", tmp_path / "cache")


def test_an_empty_table_is_refused(tmp_path):
    table = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "pets.parquet")
    with pytest.raises(DataError, match=r"expected rows in .*pets.parquet, found none: add some"):
        opened(tmp_path / "pets.parquet", tmp_path / "cache")
