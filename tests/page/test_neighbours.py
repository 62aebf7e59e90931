"""Nearest images, against loops that one can check by eye."""

import numpy as np
import pytest

from idm_ray.formats.stored import StoredSet
from idm_ray.page import neighbours
from idm_ray.page.neighbours import nearest_places
from idm_ray.results.condensed import read_arrays
from idm_ray.results.run_config import parse_config


def nearest_one_by_one(images, others):
    return [
        min(range(len(others)), key=lambda k: float(np.sum((image - others[k]) ** 2)))
        for image in images
    ]


@pytest.mark.parametrize("batch", [1, 4, 11, 50])
def test_the_nearest_is_that_of_the_smallest_distance_in_whatever_batches(batch):
    rng = np.random.default_rng(batch)
    images = rng.normal(size=(7, 3, 4, 4)).astype(np.float32)
    others = rng.normal(size=(23, 3, 4, 4)).astype(np.float32)
    batches = [others[at : at + batch] for at in range(0, 23, batch)]
    found = nearest_places(images, batches)
    assert found.tolist() == nearest_one_by_one(images, others)


def test_an_image_is_nearest_to_itself_and_to_the_first_of_its_copies():
    images = np.random.default_rng(0).normal(size=(5, 1, 2, 2)).astype(np.float32)
    assert nearest_places(images, [images[:3], images[3:], images]).tolist() == [0, 1, 2, 3, 4]


def test_of_many_real_images_some_are_looked_at_evenly_and_that_is_told(finished, monkeypatch):
    images, labels, card = read_arrays(finished / "condensed.parquet")
    stored = StoredSet(images=images, labels=labels, card=card)
    config = parse_config((finished / "config.yaml").read_bytes(), "config.yaml")
    whole = neighbours.find_neighbours(stored, config, None)
    assert "among all training images of the class" in whole.how
    monkeypatch.setattr(neighbours, "_READ_BYTES", 10 * 64 * 5)
    some = neighbours.find_neighbours(stored, config, None)
    assert "among 5 images of each class" in some.how
    rows = {row for found in some.by_label.values() for tile in found.rows for row in tile}
    assert rows <= {0, 4, 8, 12, 16}
    assert len(rows) > 2


def test_so_many_classes_that_no_neighbour_fits_have_none(finished, monkeypatch):
    images, labels, card = read_arrays(finished / "condensed.parquet")
    stored = StoredSet(images=images, labels=labels, card=card)
    config = parse_config((finished / "config.yaml").read_bytes(), "config.yaml")
    monkeypatch.setattr(neighbours, "_SHOWN_BYTES", 100)
    assert neighbours.find_neighbours(stored, config, None).by_label == {}
