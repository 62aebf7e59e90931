import itertools

import pytest

from idm_ray.algorithm.model_start import draw_start, pretraining_steps
from idm_ray.config import QueueConfig

MANY = range(2000)


def starts(models=MANY, num_classes=10, seed=0, **options):
    config = QueueConfig(**{"pretrained": 4, "lr_net": 0.02} | options)
    return [draw_start(config, m, num_classes=num_classes, seed=seed) for m in models]


def chi_square(values, bins):
    counts = [values.count(b) for b in range(bins)]
    expected = len(values) / bins
    return sum((count - expected) ** 2 / expected for count in counts)


def test_without_pretrained_networks_a_model_is_random_and_bound_to_nothing():
    (start,) = starts([7], pretrained=0, pretrained_classes=2)
    assert (start.member, start.lr, start.classes) == (None, 0.02, tuple(range(10)))


def test_learning_rates_are_within_a_tenth_distinct_and_uniform():
    rates = [start.lr for start in starts()]
    assert all(0.018 <= lr <= 0.022 for lr in rates)
    assert len(set(rates)) == len(rates)
    tenths = [int((lr - 0.018) / 0.004 * 10) for lr in rates]
    assert chi_square(tenths, 10) < 28  # 9 degrees of freedom: 1 in 1000 exceeds 27.9


def test_every_network_of_the_set_is_drawn_as_often():
    members = [start.member for start in starts()]
    assert chi_square(members, 4) < 17  # 3 degrees of freedom: 1 in 1000 exceeds 16.3


@pytest.mark.parametrize(
    ("asked", "num_classes", "bound"),
    [
        (3, 10, 3),
        (10, 10, 10),
        ("all", 7, 7),
        ("half", 10, 5),
        ("half", 7, 4),
        ("half", 3, 2),
        ("half", 2, 2),
        ("half", 1, 1),
    ],
)
def test_a_model_is_bound_to_as_many_different_classes_as_are_asked_for(asked, num_classes, bound):
    for start in starts(range(50), num_classes, pretrained_classes=asked):
        assert len(set(start.classes)) == len(start.classes) == bound
        assert set(start.classes) <= set(range(num_classes))
        assert list(start.classes) == sorted(start.classes)


def test_subsets_differ_and_every_class_and_pair_is_drawn_as_often():
    subsets = [start.classes for start in starts(pretrained_classes=3)]
    assert len(set(subsets)) == 120  # all there are, 3 of 10
    labels = [label for subset in subsets for label in subset]
    assert chi_square(labels, 10) < 28
    numbers = {pair: n for n, pair in enumerate(itertools.combinations(range(10), 2))}
    pairs = [numbers[pair] for subset in subsets for pair in itertools.combinations(subset, 2)]
    assert chi_square(pairs, 45) < 79  # 44 degrees of freedom: 1 in 1000 exceeds 78.7


def test_a_start_depends_on_the_seed_and_the_model_alone():
    assert starts(range(5)) == starts(reversed(range(5)))[::-1]
    assert starts([3])[0] != starts([3], seed=1)[0]
    # Another set, or another number of classes for each, moves none of the other draws.
    few, many = starts(range(9), pretrained_classes=2), starts(range(9), pretrained_classes=6)
    assert [(s.member, s.lr) for s in few] == [(s.member, s.lr) for s in many]
    assert all(set(a.classes) < set(b.classes) for a, b in zip(few, many, strict=True))
    assert [s.lr for s in starts(range(9), pretrained=9)] == [s.lr for s in few]


@pytest.mark.parametrize(
    ("asked", "num_images", "steps"),
    [
        (7, 1000, 7),
        ("epoch", 1000, 10),
        ("epoch", 1001, 11),
        ("epoch", 3, 1),
        ("2 epochs", 1001, 22),
        ("60 epochs", 1000, 600),
    ],
)
def test_an_epoch_is_as_many_batches_as_cover_the_images(asked, num_images, steps):
    config = QueueConfig(pretrain_steps=asked, batch_train=100)
    assert pretraining_steps(config, num_images) == steps
