"""Manifests that were made to do harm: sealed rightly, and one line says what is wrong."""

import hashlib
import json

import pytest

from idm_ray.data.manifest import ClassRecord, FileRecord, Manifest
from idm_ray.errors import DataError

RECORD = ClassRecord(
    images=2,
    encoded_bytes=300,
    digest="ab" * 32,
    channels=3,
    sides=(4, 5),
    pixels=40,
    sums=(400, 0, 40 * 255),
    squares=(4000, 0, 40 * 255**2),
)
NONE = ClassRecord(
    images=0,
    encoded_bytes=0,
    digest="",
    channels=1,
    sides=None,
    pixels=0,
    sums=(0, 0, 0),
    squares=(0, 0, 0),
)
MANIFEST = Manifest(
    name="insects",
    known_as=None,
    class_names=("ant", "bee"),
    train=(RECORD, RECORD),
    test=(RECORD, NONE),
    shards=(FileRecord(path="a.tar", size=10240, sha256=""),),
    index=FileRecord(path="index.parquet", size=900, sha256=""),
    skipped=0,
    problems=(),
)


def sealed(change):
    content = json.loads(MANIFEST.to_json())
    del content["sha256"]
    change(content)
    text = json.dumps(content, sort_keys=True)
    return json.dumps({**content, "sha256": hashlib.sha256(text.encode()).hexdigest()})


def refusal(text):
    with pytest.raises(DataError) as raised:
        Manifest.from_json(text, "manifest.json")
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_possible_is_read():
    assert Manifest.from_json(sealed(lambda content: None), "here") == MANIFEST


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("images", "6"),
        ("images", 2.0),
        ("images", True),
        ("images", None),
        ("digest", 7),
        ("sides", [4]),
        ("sides", 4),
        ("sides", ["4", "5"]),
        ("sums", [1, 2]),
        ("squares", [1, 2, []]),
        ("pixels", {}),
    ],
)
def test_a_value_of_the_wrong_type_is_named(field, value):
    text = sealed(lambda content: content["train"][1].update({field: value}))
    assert f"damaged (manifest.train[1].{field}" in refusal(text)


@pytest.mark.parametrize(
    "values",
    [
        {"images": -1},
        {"images": 3},
        {"images": 10**30, "sides": None},
        {"images": 0},
        {"channels": 7},
        {"channels": 0},
        {"pixels": 0},
        {"pixels": 10**300},
        {"sides": [-4, -5]},
        {"sides": [0, 5], "pixels": 0},
        {"sides": [2**20, 2**20], "pixels": 2**41},
        {"encoded_bytes": 0},
        {"sums": [-1, 0, 0]},
        {"sums": [401, 0, 40 * 255 + 1]},
        {"squares": [4000, 0, 40 * 255**2 + 1]},
        {"squares": [3999, 0, 40 * 255**2]},
    ],
)
def test_numbers_that_no_images_have_are_refused(values):
    text = sealed(lambda content: content["train"][0].update(values))
    assert "damaged (manifest.train[0] has numbers that no images have)" in refusal(text)


def test_more_images_than_fit_into_the_shards_are_refused():
    text = sealed(lambda content: content["train"][0].update(encoded_bytes=10**12))
    assert "its images are larger than its shards" in refusal(text)


@pytest.mark.parametrize(
    "values",
    [
        {"skipped": -1},
        {"skipped": "many"},
        {"name": None},
        {"known_as": 3},
        {"class_names": [1, 2]},
        {"problems": 5},
        {"shards": [{"path": "a.tar", "size": -1, "sha256": ""}]},
        {"shards": [{"path": 5, "size": 10240, "sha256": ""}]},
        {"index": {"path": "index.parquet", "size": "900", "sha256": ""}},
    ],
)
def test_other_values_that_cannot_be_are_refused(values):
    assert "damaged (" in refusal(sealed(lambda content: content.update(values)))


def test_json_that_is_nested_without_end_is_refused():
    assert "damaged (" in refusal("[" * 10**5)
