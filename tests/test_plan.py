import pytest
import torch

from tests.making_runs import plan_of, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "pictures"
    return plan_of(data=str(write_pictures(folder, {"ant": 3, "bee": 3, "cat": 3})))[0]


@pytest.fixture(scope="module")
def digits():
    return plan_of(classes_per_group=3)[0]


def test_the_last_group_holds_the_classes_that_are_left(digits):
    assert digits.groups == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9,))


def test_digits_are_never_mirrored_and_pictures_may_be(digits, pictures):
    assert set(pictures.operations) - set(digits.operations) == {"flip"}


def test_the_network_fits_the_data_and_takes_no_memory(digits, pictures):
    assert digits.build_network()(torch.zeros(2, 1, 8, 8, device="meta")).shape == (2, 10)
    assert pictures.build_network()(torch.zeros(2, 3, 8, 8, device="meta")).shape == (2, 3)
    assert all(p.device.type == "meta" for p in digits.build_network().parameters())
