import numpy as np
import pytest

from idm_ray.data.listing import Listing
from idm_ray.data.splits import check_counts, hold_out, train_rows
from idm_ray.errors import DataError


def test_the_same_share_of_every_class_is_held_out():
    labels = np.array([0] * 50 + [1] * 10 + [2] * 2)
    is_test = hold_out(labels, 0.2)
    assert np.bincount(labels[is_test]).tolist() == [10, 2, 1]


def test_a_class_of_one_image_keeps_it_for_training():
    assert hold_out(np.array([0, 1, 1]), 0.9).sum() == 1


def test_holding_out_is_the_same_every_time_and_not_the_same_places_in_each_class():
    labels = np.repeat([0, 1], 100)
    is_test = hold_out(labels, 0.3)
    assert (is_test == hold_out(labels, 0.3)).all()
    assert (is_test[:100] != is_test[100:]).any()


def test_a_limit_spreads_over_the_class_and_leaves_the_test_images_alone():
    labels = np.array([0] * 10 + [1] * 3 + [0])
    is_test = np.arange(14) == 13
    listing = Listing(("a", "b"), labels, is_test)
    assert train_rows(listing, 5).tolist() == [0, 2, 4, 6, 8, 10, 11, 12]
    assert train_rows(listing, None).tolist() == list(range(13))


@pytest.mark.parametrize(
    "names, train, test, message",
    [
        (("a",), [5], [5], "expected two or more classes, found 1 .a.: give"),
        (("a", "b"), [5, 0], [5, 5], "training images of every class, found none of class 'b': "),
        (("a", "b"), [5, 5], [0, 0], "expected test images, found none: add"),
    ],
)
def test_unusable_counts_are_refused_in_one_line(names, train, test, message):
    with pytest.raises(DataError, match=message) as caught:
        check_counts(names, np.array(train), np.array(test))
    assert "\n" not in str(caught.value)
