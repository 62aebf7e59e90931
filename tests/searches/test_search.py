import pytest

from idm_ray.searches.search import Choice, LogUniform, Uniform


@pytest.mark.parametrize("kind", [Uniform, LogUniform])
@pytest.mark.parametrize(
    ("value", "nearest"), [(1.0, 1.0), (2, 2), (4.0, 4.0), (0.5, 1.0), (100, 4.0)]
)
def test_the_nearest_value_of_a_range_is_the_value_or_an_end(kind, value, nearest):
    assert kind(low=1.0, high=4.0).nearest(value) == nearest


def test_the_nearest_value_of_a_choice_is_one_of_its_values():
    choice = Choice(values=("last", 10))
    assert choice.nearest(10) == 10
    assert choice.nearest(11) == "last"


def test_a_range_between_whole_numbers_is_of_whole_numbers():
    assert LogUniform(low=1, high=4).is_whole
    assert not LogUniform(low=1.0, high=4).is_whole
