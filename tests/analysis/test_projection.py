import numpy as np
import pytest

from idm_ray.analysis.measuring import pictured_rows
from idm_ray.analysis.projection import project


def clouds(count, width, seed=0):
    draws = np.random.default_rng(seed)
    features = draws.standard_normal((count, width)) * np.linspace(3, 0.5, width)
    return features.astype(np.float32), draws.integers(0, 3, count)


# With more than 500 rows another method of scikit-learn's computes it.
@pytest.mark.parametrize("count", [40, 700])
def test_the_plane_is_that_of_the_largest_eigenvalues(count):
    real, labels = clouds(count, 20)
    samples, own = clouds(9, 20, seed=1)
    found = project(real, labels, [(samples, own), (real, labels)])
    centred = real.astype(np.float64) - real.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    plane, share = vectors[:, :-3:-1], values[:-3:-1] / values.sum()
    expected = (samples - real.mean(axis=0, dtype=np.float64)) @ plane
    # An axis may point to either side.
    assert np.abs(found.sets[0].places) == pytest.approx(np.abs(expected), rel=1e-2, abs=1e-2)
    assert found.variance == pytest.approx(tuple(share), rel=1e-3)
    assert found.real.places == pytest.approx(found.sets[1].places)
    assert (found.real.labels is labels, found.sets[0].labels is own) == (True, True)


@pytest.mark.parametrize("count", [40, 700])
def test_the_same_features_give_the_same_plane(count):
    real, labels = clouds(count, 600)
    first, second = (project(real, labels, [(real[:5], labels[:5])]) for _ in range(2))
    assert first.real.places.tobytes() == second.real.places.tobytes()
    assert first.sets[0].places.tobytes() == second.sets[0].places.tobytes()


def test_features_that_are_all_alike_have_a_picture_too():
    real = np.ones((4, 6), np.float32)
    found = project(real, np.array([0, 0, 1, 1]), [(real, np.array([0, 0, 1, 1]))])
    assert np.isfinite(found.real.places).all()
    assert found.variance == (0, 0)


def test_each_class_has_as_many_real_images_in_a_picture():
    assert pictured_rows((2, 3)).tolist() == [0, 1, 2, 3, 4]
    rows = pictured_rows((1000, 150, 400))
    counts = np.histogram(rows, [0, 1000, 1150, 1550])[0]
    assert counts.tolist() == [200, 150, 200]
    assert rows[:3].tolist() == [0, 5, 10]
    assert (np.diff(rows) > 0).all()


def test_many_classes_have_fewer_each():
    assert len(pictured_rows((500,) * 100)) == 5000
    assert pictured_rows((3,) * 6000).tolist() == [3 * number for number in range(6000)]
