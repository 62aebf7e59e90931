import numpy as np
import pytest
import torch

from idm_ray.analysis import consistency
from idm_ray.analysis.consistency import Nearest, consistency_ratios
from tests import reference

K = 7


@pytest.fixture
def clouds():
    """Points and others of three classes: features (N, F) and labels (N,) of each."""
    draws = np.random.default_rng(0)
    centres = draws.standard_normal((3, 5))

    def cloud(count):
        labels = draws.integers(0, 3, count)
        features = centres[labels] + draws.standard_normal((count, 5))
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)

    return cloud(11), cloud(60)


def indices(points, others, k, *, at_once=None):
    found = Nearest(points, k)
    for part in others.split(at_once or len(others)):
        found.add(part)
    return found.indices()


def ratios(synthetic, real, ks, **given):
    (points, labels), (others, real_labels) = synthetic, real
    near = indices(points, others, max(ks), **given)
    return consistency_ratios(real_labels[near], labels, ks)


@pytest.mark.parametrize("at_once", [1, 6, 7, 59, 60])
def test_neighbours_are_those_of_plain_loops_however_the_others_come(clouds, at_once):
    (points, _), (others, _) = clouds
    found = indices(points, others, K, at_once=at_once)
    expected = [reference.nearest(point, others.tolist(), K) for point in points.tolist()]
    assert found.tolist() == expected


def test_neighbours_do_not_depend_on_how_many_points_are_compared_at_a_time(clouds, monkeypatch):
    (points, _), (others, _) = clouds
    before = indices(points, others, K)
    monkeypatch.setattr(consistency, "_DISTANCES", 1)
    assert indices(points, others, K).equal(before)


def test_ratios_are_those_of_plain_loops(clouds):
    (points, labels), (others, real_labels) = clouds
    ks = (1, 2, 5, 20, 60)
    expected = [
        reference.consistency_ratio(
            points.tolist(), labels.tolist(), others.tolist(), real_labels.tolist(), k
        )
        for k in ks
    ]
    assert len({round(ratio, 6) for ratio in expected}) > 2
    assert ratios(*clouds, ks, at_once=13) == pytest.approx(expected, abs=1e-12)


def test_a_case_that_can_be_solved_by_hand():
    # On a line: real ones of class 0 at 0, 1, 2, of class 1 at 10, 11, 12.
    others = torch.tensor([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]])
    real_labels = torch.tensor([0, 0, 0, 1, 1, 1])
    # Two samples of class 0 where they belong and among the others, and one of class 1 between.
    points, labels = torch.tensor([[0.4], [11.2], [7.0]]), torch.tensor([0, 0, 1])
    near = indices(points, others, 6)
    assert near.tolist() == [[0, 1, 2, 3, 4, 5], [4, 5, 3, 2, 1, 0], [3, 4, 2, 5, 1, 0]]
    found = consistency_ratios(real_labels[near], labels, (1, 2, 3, 4, 6))
    expected = [
        (1 + 0 + 1) / 3,
        (1 + 0 + 1) / 3,
        (1 + 0 + 2 / 3) / 3,
        (3 / 4 + 1 / 4 + 3 / 4) / 3,
        1 / 2,
    ]
    assert found == pytest.approx(expected)


def test_the_order_of_the_real_images_says_nothing(clouds):
    synthetic, (others, real_labels) = clouds
    order = torch.from_numpy(np.random.default_rng(1).permutation(len(others)))
    shuffled = (others[order], real_labels[order])
    assert ratios(synthetic, shuffled, (1, 5, 20)) == ratios(*clouds, (1, 5, 20))


@pytest.mark.parametrize("factor", [0.001, 3.0, 1e6])
def test_the_scale_of_the_features_says_nothing(clouds, factor):
    (points, labels), (others, real_labels) = clouds
    scaled = (points * factor, labels), (others * factor, real_labels)
    assert ratios(*scaled, (1, 5, 20)) == ratios(*clouds, (1, 5, 20))


def test_where_the_origin_lies_says_nothing(clouds):
    (points, labels), (others, real_labels) = clouds
    moved = (points.double() + 2**20, labels), (others.double() + 2**20, real_labels)
    assert ratios(*moved, (1, 5, 20)) == ratios(*clouds, (1, 5, 20))


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_of_equally_near_ones_the_first_is_nearest(at_once):
    others = torch.tensor([[3.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = indices(torch.zeros(1, 2), others, 5, at_once=at_once)
    assert found.tolist() == [[1, 2, 3, 4, 0]]
    assert indices(torch.zeros(1, 2), others, 2, at_once=at_once).tolist() == [[1, 2]]


def test_distances_are_exact_where_float32_would_see_none():
    # Far from the origin: in float32, squares of these lose what makes them differ.
    others = torch.tensor([[4097.0], [4096.5], [4096.25]])
    assert indices(torch.tensor([[4096.0]]), others, 3).tolist() == [[2, 1, 0]]


def test_all_real_images_give_their_share_of_the_class(clouds):
    synthetic, (others, real_labels) = clouds
    shares = [(real_labels == label).double().mean() for label in synthetic[1]]
    expected = float(sum(shares) / len(shares))
    assert ratios(synthetic, (others, real_labels), (60,))[0] == pytest.approx(expected)


def test_more_neighbours_than_there_are_are_refused(clouds):
    (points, _), (others, _) = clouds
    with pytest.raises(ValueError, match="expected at least k = 61 others, got 60; add more"):
        indices(points, others, 61)
    assert indices(points, others, 60).sort(dim=1).values.tolist() == [[*range(60)]] * len(points)
