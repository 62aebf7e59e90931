import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from idm_ray.errors import CondensedSetError
from idm_ray.results.condensed import read_arrays, read_card, replace_card, write_condensed
from idm_ray.results.pictures import to_uint8
from tests.results.sets import make_arrays, make_card


@pytest.fixture
def card():
    return make_card()


@pytest.fixture
def path(tmp_path, card):
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "condensed.parquet", images=images, labels=labels, card=card)
    return tmp_path / "condensed.parquet"


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_pixels_labels_and_card_come_back_bit_for_bit(path, card):
    images, labels = make_arrays(card)
    found_images, found_labels, found_card = read_arrays(path)
    assert_same_bits(found_images, images)
    np.testing.assert_array_equal(found_labels, labels)
    assert found_card == card
    assert read_card(path) == card


READS = """
import os, sys
from idm_ray.results.condensed import read_arrays
before = os.listdir("/proc/self/task")
read_arrays(sys.argv[1])
print(len(os.listdir("/proc/self/task")) - len(before))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_reading_leaves_no_threads_that_could_outlive_python(path):
    command = [sys.executable, "-c", READS, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_rows_are_sorted_by_class_and_keep_their_order_within_one(tmp_path, card):
    images, labels = make_arrays(card)
    order = np.array([4, 0, 3, 1, 5, 2])
    write_condensed(tmp_path / "set", images=images[order], labels=labels[order], card=card)
    found_images, found_labels, _ = read_arrays(tmp_path / "set")
    np.testing.assert_array_equal(found_labels, labels)
    assert_same_bits(found_images, images[[0, 1, 3, 2, 4, 5]])


def test_equal_input_gives_equal_bytes(path, tmp_path, card):
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "again", images=images, labels=labels, card=card)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_plain_arrow_reads_the_columns(path, card):
    table = pq.read_table(path)
    images, labels = make_arrays(card)
    assert table.column_names == ["image", "label", "class_name", "pixels"]
    assert table["label"].to_pylist() == labels.tolist()
    assert table["class_name"].to_pylist() == [card.class_names[label] for label in labels]
    assert_same_bits(table["pixels"].combine_chunks().flatten().to_numpy(), images.reshape(-1))


def test_the_png_shows_the_denormalised_image(path, card):
    pictures = pq.read_table(path)["image"].to_pylist()
    images, _ = make_arrays(card)
    expected = to_uint8(images, mean=card.mean, std=card.std)
    for picture, image in zip(pictures, expected, strict=True):
        decoded = np.asarray(Image.open(io.BytesIO(picture["bytes"])))
        np.testing.assert_array_equal(decoded, image.transpose(1, 2, 0))
    assert [picture["path"] for picture in pictures][:3] == [
        "00000_0000.png",
        "00000_0001.png",
        "00001_0000.png",
    ]


def test_the_features_for_the_hub_describe_every_column(path, card):
    schema = pq.read_schema(path)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["label"] == {"names": list(card.class_names), "_type": "ClassLabel"}
    assert features["pixels"]["length"] == 48
    # `datasets` uses its features only for columns that may be null.
    assert all(field.nullable for field in schema)


def test_the_column_hash_can_be_computed_from_its_description(path, card):
    digest = hashlib.sha256()
    for row in pq.read_table(path).to_pylist():
        digest.update(row["label"].to_bytes(8, "little"))
        for part in (
            row["class_name"].encode(),
            row["image"]["path"].encode(),
            np.array(row["pixels"], "<f4").tobytes(),
            row["image"]["bytes"],
        ):
            digest.update(len(part).to_bytes(8, "little") + part)
    stored = json.loads(pq.ParquetFile(path).metadata.metadata[b"idm_ray"])
    assert stored["sha256_columns"] == digest.hexdigest()


def test_row_groups_stay_below_32_mb(tmp_path):
    card = make_card(image_shape=(1, 1024, 1024), mean=(0.3,), std=(0.4,), ipc=3)
    images = np.zeros((9, 1, 1024, 1024), np.float32)
    images[:, 0, 0, 0] = np.arange(9)
    labels = np.repeat(np.arange(3), 3)
    write_condensed(tmp_path / "large", images=images, labels=labels, card=card)
    metadata = pq.ParquetFile(tmp_path / "large").metadata
    sizes = [metadata.row_group(index).total_byte_size for index in range(2)]
    assert metadata.num_row_groups == 2
    assert 20 * 2**20 < max(sizes) <= 32 * 2**20
    assert_same_bits(read_arrays(tmp_path / "large")[0], images)


def test_a_new_card_leaves_the_same_file_as_writing_it_at_once(path, tmp_path, card):
    evaluated = dataclasses.replace(card, evaluation={"mean": 0.45, "repeats": 5})
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "at_once", images=images, labels=labels, card=evaluated)
    replace_card(path, evaluated)
    assert path.read_bytes() == (tmp_path / "at_once").read_bytes()
    assert read_card(path).evaluation == {"mean": 0.45, "repeats": 5}


def test_a_new_card_must_describe_the_same_images(path, card):
    before = path.read_bytes()
    with pytest.raises(CondensedSetError, match="same images, found another 'partition'"):
        replace_card(path, dataclasses.replace(card, partition=1))
    assert path.read_bytes() == before


def test_a_new_card_is_not_put_on_damaged_columns(path, card):
    content = bytearray(path.read_bytes())
    content[content.index(b"IHDR") + 8] ^= 1
    path.write_bytes(content)
    with pytest.raises(CondensedSetError):
        replace_card(path, card)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_grey_images_work(tmp_path):
    card = make_card(image_shape=(1, 4, 4), mean=(0.3,), std=(0.4,))
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "grey", images=images, labels=labels, card=card)
    assert_same_bits(read_arrays(tmp_path / "grey")[0], images)


def test_two_channels_are_refused_and_nothing_is_left(tmp_path):
    card = make_card(image_shape=(2, 4, 4), mean=(0.3, 0.3), std=(0.4, 0.4))
    images, labels = make_arrays(card)
    with pytest.raises(CondensedSetError, match="found 2; convert"):
        write_condensed(tmp_path / "set", images=images, labels=labels, card=card)
    assert not os.listdir(tmp_path)


def test_pixels_that_are_not_finite_are_refused(tmp_path, card):
    images, labels = make_arrays(card)
    images[3, 0, 0, 0] = np.nan
    with pytest.raises(CondensedSetError, match="finite"):
        write_condensed(tmp_path / "set", images=images, labels=labels, card=card)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images.astype(np.float64), labels), "images float64"),
        (lambda images, labels: (images[:5], labels), r"\(5, 3, 4, 4\)"),
        (lambda images, labels: (images, labels.astype(np.int32)), "labels int32"),
        (lambda images, labels: (images, labels + 1), "labels 1 to 3"),
        (lambda images, labels: (images, labels.clip(0, 1)), "in other numbers"),
    ],
)
def test_arrays_that_contradict_the_card_are_refused(tmp_path, card, change, message):
    images, labels = change(*make_arrays(card))
    with pytest.raises(CondensedSetError, match=message):
        write_condensed(tmp_path / "set", images=images, labels=labels, card=card)


def test_writing_and_reading_arrays_need_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tests.results.sets import make_arrays, make_card\n"
        "from idm_ray.results.condensed import read_arrays, replace_card, write_condensed\n"
        "card = make_card(); images, labels = make_arrays(card)\n"
        "import tempfile; path = tempfile.mkdtemp() + '/set'\n"
        "write_condensed(path, images=images, labels=labels, card=card)\n"
        "replace_card(path, card); read_arrays(path)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
