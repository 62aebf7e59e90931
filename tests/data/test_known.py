import pytest

from idm_ray.data.known import CIFAR10, CIFAR100, IMAGENET_SUBSET, KNOWN, recognise

TEN = tuple("abcdefghij")


@pytest.mark.parametrize("name", ["cifar10", "CIFAR-10", "cifar_10"])
def test_a_folders_name_is_recognised_in_any_spelling(name):
    assert recognise(name, TEN, (3, 32, 32)) == "cifar10"


def test_a_name_with_another_image_shape_or_class_count_is_not_recognised():
    assert recognise("cifar10", TEN, (3, 64, 64)) is None
    assert recognise("cifar10", TEN[:9], (3, 32, 32)) is None


def test_class_names_are_recognised_in_any_order():
    assert recognise("photos", CIFAR10[::-1], (3, 32, 32)) == "cifar10"
    assert recognise("photos", CIFAR100, (3, 32, 32)) == "cifar100"
    assert recognise("photos", tuple(sorted(IMAGENET_SUBSET)), (3, 224, 224)) == "imagenet_subset"


def test_ten_classes_of_imagenet_are_not_the_imagenet_subset():
    assert recognise("imagenette224", IMAGENET_SUBSET[:10], (3, 224, 224)) is None


def test_class_names_that_many_data_sets_share_are_not_enough():
    digits = tuple("0123456789")
    assert recognise("photos", digits, (1, 28, 28)) is None
    assert recognise("digits", digits, (1, 8, 8)) is None


def test_tiny_imagenet_is_recognised_by_the_name_of_its_archive():
    names = tuple(str(label) for label in range(200))
    assert recognise("tiny-imagenet-200", names, (3, 64, 64)) == "tinyimagenet"


def test_the_table_agrees_with_itself():
    assert len(set(IMAGENET_SUBSET)) == 100
    assert len(set(CIFAR100)) == 100
    for name, known in KNOWN.items():
        assert known.name == name
        assert known.class_names is None or len(known.class_names) == known.num_classes
        for constants in (known.mean, known.std):
            assert constants is None or len(constants) == known.image_shape[0]


def test_only_digits_and_numbers_must_not_be_mirrored():
    assert {name for name, known in KNOWN.items() if not known.flips} == {"digits", "mnist", "svhn"}
