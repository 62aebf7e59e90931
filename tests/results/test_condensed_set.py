import pytest
import torch
from torch.utils.data import DataLoader

from idm_ray.algorithm.expansion import expand
from idm_ray.formats.opening import load
from idm_ray.results.condensed import write_condensed
from tests.results.sets import make_arrays, make_card


@pytest.fixture
def condensed(tmp_path):
    card = make_card()
    images, labels = make_arrays(card)
    write_condensed(tmp_path / "condensed.parquet", images=images, labels=labels, card=card)
    return load(str(tmp_path / "condensed.parquet"))


def test_a_loaded_set_holds_the_tensors_and_the_card(condensed):
    images, labels = make_arrays(make_card())
    assert torch.equal(condensed.images, torch.from_numpy(images))
    assert torch.equal(condensed.labels, torch.from_numpy(labels))
    assert condensed.card == make_card()
    assert len(condensed) == 6


def test_the_dataset_expands_unless_told_otherwise(condensed):
    dataset = condensed.dataset()
    expanded = expand(condensed.images, 2)
    assert len(dataset) == 24
    for index, (image, label) in enumerate(dataset[i] for i in range(24)):
        assert torch.equal(image, expanded[index])
        assert label == index // 8


def test_the_stored_images_are_given_out_on_request(condensed):
    dataset = condensed.dataset(expand=False)
    assert len(dataset) == 6
    image, label = dataset[5]
    assert torch.equal(image, condensed.images[5])
    assert label == 2


def test_a_data_loader_makes_batches_of_it(condensed):
    images, labels = next(iter(DataLoader(condensed.dataset(), batch_size=24)))
    assert (images.shape, images.dtype) == ((24, 3, 4, 4), torch.float32)
    assert labels.dtype == torch.int64
    assert labels.tolist() == sorted(list(range(3)) * 8)


def test_its_line_says_what_it_is(condensed):
    assert repr(condensed) == (
        "<CondensedSet: 3 classes x 2 images of 3 x 4 x 4, expanding 2 x 2, idm on cifar10>"
    )
