import dataclasses
import json

import pytest

from idm_ray.errors import CondensedSetError
from idm_ray.results.card import Card, seal, unseal
from tests.results.sets import make_card


def test_a_card_survives_json_unchanged():
    card = make_card(evaluation={"mean": 0.1 + 0.2, "accuracies": [0.25, 0.5]})
    assert Card.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_a_sealed_card_opens_with_the_hash_of_its_columns():
    card = make_card()
    assert unseal(seal(card, "ab")) == (card, "ab")


def test_the_usage_tells_to_expand_only_a_partitioned_set():
    assert "2 x 2 tiles of 2 x 2 pixels" in make_card().usage
    assert "tiles" not in make_card(partition=1).usage


def test_the_usage_forbids_mirroring_where_it_changes_the_class():
    assert "never mirror" in make_card(flips=False).usage
    assert "never mirror" not in make_card(flips=True).usage


def test_the_usage_names_mean_and_std():
    assert "[0.49, 0.48, 0.45]" in make_card().usage
    assert "[0.25, 0.24, 0.26]" in make_card().usage


def test_a_usage_of_ones_own_is_kept():
    assert make_card(usage="Look only.").usage == "Look only."


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format_version", 0),
        ("image_shape", (3, 4)),
        ("image_shape", (3, 0, 4)),
        ("image_shape", [3, 4, 4]),
        ("mean", (0.5, 0.5)),
        ("mean", (0.5, 0.5, float("nan"))),
        ("std", (0.5, 0.5, 0.0)),
        ("partition", 0),
        ("partition", 3),
        ("partition", True),
        ("usage", None),
        ("class_names", ()),
        ("class_names", ("cat", "cat")),
        ("class_names", ("cat\udcff",)),
        ("ipc", 1.0),
        ("method", None),
        ("flips", 1),
        ("seed", "0"),
        ("iterations", -1),
        ("protocol", {"name": "paper"}),
        ("evaluation", 0.5),
        ("source", {"name": "cifar10"}),
        ("versions", {"torch": "2.8"}),
        ("versions", {"idm_ray": "0.1.0", "torch": None}),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(field, value):
    with pytest.raises(CondensedSetError, match=r"^expected .*, found ") as caught:
        make_card(**{field: value})
    assert "\n" not in str(caught.value)


def test_the_message_names_field_and_value():
    with pytest.raises(CondensedSetError, match="expected a positive integer in 'ipc', found 0"):
        make_card(ipc=0)


def test_missing_fields_are_named():
    fields = make_card().to_json()
    del fields["mean"], fields["seed"]
    with pytest.raises(CondensedSetError, match="without mean, seed"):
        Card.from_json(fields)


def test_unknown_fields_are_named():
    with pytest.raises(CondensedSetError, match="also colour"):
        Card.from_json(make_card().to_json() | {"colour": "red"})


def test_a_newer_format_names_the_version_to_install():
    fields = make_card(versions={"idm_ray": "7.3.0"}).to_json()
    newer = fields | {"format_version": 2, "unheard_of": 1}
    with pytest.raises(CondensedSetError, match=r"found format 2; install idm_ray 7\.3\.0"):
        Card.from_json(newer)
    with pytest.raises(CondensedSetError, match="found format 2"):
        unseal(json.dumps(newer).encode())


def test_a_newer_format_without_versions_still_says_what_to_do():
    with pytest.raises(CondensedSetError, match="install idm_ray in a newer version"):
        Card.from_json({"format_version": 2})


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Card)])
def test_a_field_changed_after_sealing_is_noticed(name):
    fields = json.loads(seal(make_card(), "ab"))
    fields[name] = "changed"
    with pytest.raises(CondensedSetError):
        unseal(json.dumps(fields).encode())


@pytest.mark.parametrize("sealed", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_not_a_card_is_refused(sealed):
    with pytest.raises(CondensedSetError):
        unseal(sealed)


def test_a_card_with_a_number_that_json_cannot_express_is_not_sealed():
    with pytest.raises(CondensedSetError, match="JSON can express"):
        seal(make_card(evaluation={"mean": float("nan")}), "ab")
