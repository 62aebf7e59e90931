import pytest

from idm_ray.searches.search import Choice, LogUniform, Uniform


@pytest.mark.parametrize("kind", [Uniform, LogUniform])
@pytest.mark.parametrize(
    ("value", "held"),
    [(1.0, True), (2, True), (4.0, True), (0.99, False), (4.01, False), ("last", False)],
)
def test_a_range_holds_numbers_up_to_both_its_ends(kind, value, held):
    assert kind(low=1.0, high=4.0).holds(value) is held


def test_a_choice_holds_its_values_alone():
    choice = Choice(values=("last", 10))
    assert choice.holds("last")
    assert choice.holds(10)
    assert not choice.holds(11)


def test_a_range_between_whole_numbers_is_of_whole_numbers():
    assert LogUniform(low=1, high=4).is_whole
    assert not LogUniform(low=1.0, high=4).is_whole
