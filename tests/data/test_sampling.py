import subprocess
import sys

import numpy as np
import pytest

from idm_ray.data.dataset import Split
from idm_ray.data.sampling import (
    draw_rows,
    pretrain_batch_rows,
    random_generator,
    random_set_rows,
    real_batch_rows,
    start_rows,
    train_batch_rows,
)


@pytest.fixture
def split():
    """Three classes of 100, 3 and 40 images."""
    counts = (100, 3, 40)
    images = np.zeros((sum(counts), 1, 2, 2), dtype=np.uint8)
    return Split(images, np.cumsum((0, *counts), dtype=np.int64))


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


def test_equal_keys_give_equal_draws_and_other_keys_others():
    keys = [
        (0, "real", 1, 2),
        (0, "real", 2, 1),
        (0, "train", 1, 2),
        (1, "real", 1, 2),
        (0, "real"),
    ]
    draws = [tuple(random_generator(*key).integers(0, 2**62, 4)) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [tuple(random_generator(*key).integers(0, 2**62, 4)) for key in keys]


def test_parts_of_a_key_do_not_run_into_each_other():
    keys = [(1, 23), (12, 3), ("1", 23), ("a", "bc"), ("ab", "c"), (-1, 23)]
    assert len({int(random_generator(*key).integers(0, 2**62)) for key in keys}) == len(keys)


def test_whole_numbers_of_numpy_are_the_same_key():
    assert random_generator(np.int64(7), "x").random() == random_generator(7, "x").random()


def test_a_key_that_is_no_whole_number_is_refused():
    with pytest.raises(TypeError):
        random_generator(0.5)


def test_a_draw_is_the_same_in_another_process():
    code = (
        "from idm_ray.data.sampling import random_generator;"
        "print(random_generator(3, 'real', 10, 4).integers(0, 2**62))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == random_generator(3, "real", 10, 4).integers(0, 2**62)


def test_rows_are_drawn_without_replacement():
    rows = draw_rows(1_000_000, 256, random_generator("test"))
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == 256
    assert 0 <= rows.min() <= rows.max() < 1_000_000


def test_more_rows_than_there_are_give_each_once():
    assert sorted(draw_rows(5, 9, random_generator("test")).tolist()) == [0, 1, 2, 3, 4]


def test_a_real_batch_has_only_images_of_its_class(split):
    rows = real_batch_rows(split, 2, 10, seed=0, iteration=4)
    assert len(set(rows.tolist())) == 10
    assert (split.labels[rows] == 2).all()


def test_a_real_batch_as_large_as_the_class_is_the_class_in_order(split):
    for batch_real in (3, 256):
        rows = real_batch_rows(split, 1, batch_real, seed=0, iteration=0)
        assert rows.tolist() == [100, 101, 102]


def test_real_batches_are_uniform_over_the_class(split):
    drawn = [real_batch_rows(split, 0, 10, seed=1, iteration=i) for i in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=100)[:100]
    assert chi_square(counts) < 150  # 99 degrees of freedom: 1 in 1000 exceeds 149


def test_training_batches_are_uniform_over_all_images(split):
    drawn = [
        train_batch_rows(split, 16, classes=range(3), seed=1, model=2, step=i) for i in range(2000)
    ]
    assert all(len(set(rows.tolist())) == 16 for rows in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=len(split.images))
    assert chi_square(counts) < 200  # 142 degrees of freedom: 1 in 1000 exceeds 199


def test_training_batches_over_all_classes_are_plain_draws_of_rows(split):
    for step in range(20):
        rows = train_batch_rows(split, 16, classes=range(3), seed=1, model=2, step=step)
        drawn = draw_rows(143, 16, random_generator(1, "train", 2, step))
        assert rows.tolist() == drawn.tolist()


@pytest.mark.parametrize("classes", [(1,), (0, 2), (1, 2)])
def test_training_batches_of_some_classes_are_uniform_over_their_images_alone(split, classes):
    wanted = np.concatenate([list(split.class_rows(c)) for c in classes])
    size = min(16, len(wanted))
    drawn = [
        train_batch_rows(split, 16, classes=classes, seed=1, model=2, step=i) for i in range(2000)
    ]
    assert all(len(set(rows.tolist())) == size for rows in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=len(split.images))
    assert counts.sum() == counts[wanted].sum() == 2000 * size
    # At most 139 degrees of freedom: 1 in 1000 exceeds 195.
    assert chi_square(counts[wanted]) < 195


def test_pretrained_networks_draw_batches_of_all_images_apart_from_the_models(split):
    def batch(member, step, size=16):
        return pretrain_batch_rows(split, size, seed=0, member=member, step=step).tolist()

    model = train_batch_rows(split, 16, classes=range(3), seed=0, model=1, step=2).tolist()
    assert len({tuple(rows) for rows in (batch(1, 2), batch(2, 1), batch(1, 3), model)}) == 4
    assert batch(1, 2) == batch(1, 2)
    assert sorted(batch(0, 0, 200)) == list(range(143))


def test_batches_depend_on_nothing_but_their_key(split):
    def batches(steps):
        return {
            i: train_batch_rows(split, 8, classes=[0, 2], seed=0, model=1, step=i).tolist()
            for i in steps
        }

    forward, backward = batches(range(20)), batches(reversed(range(20)))
    np.random.default_rng().random()
    assert forward == backward
    assert len({tuple(rows) for rows in forward.values()}) == 20


def test_models_and_classes_draw_independently(split):
    one, other = (
        train_batch_rows(split, 16, classes=range(3), seed=0, model=m, step=0).tolist()
        for m in (0, 1)
    )
    assert one != other
    even = Split(split.images, np.array([0, 70, 140], dtype=np.int64))
    first = real_batch_rows(even, 0, 8, seed=0, iteration=0)
    second = real_batch_rows(even, 1, 8, seed=0, iteration=0)
    assert (second - 70).tolist() != first.tolist()


def test_a_start_takes_different_images_of_the_class(split):
    rows = start_rows(split, 0, 40, seed=0)
    assert len(set(rows.tolist())) == 40
    assert (split.labels[rows] == 0).all()


def test_a_start_from_a_small_class_goes_over_it_again_and_again(split):
    rows = start_rows(split, 1, 8, seed=0)
    assert len(rows) == 8
    for first in (0, 3):
        assert sorted(rows[first : first + 3].tolist()) == [100, 101, 102]
    assert len(set(rows[6:].tolist())) == 2


def test_the_random_baseline_is_not_the_start(split):
    rows = random_set_rows(split, 0, 40, seed=0)
    assert len(set(rows.tolist())) == 40
    assert (split.labels[rows] == 0).all()
    assert rows.tolist() != start_rows(split, 0, 40, seed=0).tolist()
    assert rows.tolist() != random_set_rows(split, 0, 40, seed=1).tolist()
