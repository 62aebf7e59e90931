"""Memories put together: labels of the data, one normalisation, tiles expanded."""

import numpy as np
import pytest
import torch

from idm_ray.algorithm.expansion import expand
from idm_ray.continual.memories import normalised_as, put_together
from idm_ray.data.dataset import DatasetInfo
from idm_ray.formats.stored import StoredSet, labels_of
from tests.results.sets import make_card

STEPS = ((3, 0, 4), (1, 2))


def info_of(card, **changes):
    """Of whole data with 5 classes."""
    fields = {
        "source": "made",
        "name": "made",
        "known_as": None,
        "class_names": tuple("abcde"),
        "image_shape": card.image_shape,
        "train_counts": (9,) * 5,
        "test_counts": (9,) * 5,
        "mean": card.mean,
        "std": card.std,
        "flips": True,
        "fingerprint": "0f",
        "skipped": 0,
    }
    return DatasetInfo(**fields | changes)


def a_set(names, seed=0, **changes):
    card = make_card(class_names=tuple(names), **changes)
    images = np.random.default_rng(seed).random((card.num_images, *card.image_shape), np.float32)
    return StoredSet(images=images, labels=labels_of(card), card=card)


def together(**changes):
    sets = [a_set("dae", 0, **changes), a_set("bc", 1, **changes)]
    return sets, put_together(sets, STEPS, info_of(sets[0].card))


def test_images_keep_their_bits_and_get_the_labels_of_the_data():
    sets, memories = together()
    assert memories.labels.tolist() == [3, 3, 0, 0, 4, 4, 1, 1, 2, 2]
    assert memories.ends == (6, 10)
    assert (memories.seen(1), memories.seen(2)) == ((0, 3, 4), (0, 1, 2, 3, 4))
    assert memories.images[:6].tobytes() == sets[0].images.tobytes()
    assert memories.images[6:].tobytes() == sets[1].images.tobytes()


@pytest.mark.parametrize("partition", [1, 2])
def test_the_union_of_the_first_steps_is_what_a_network_is_trained_on(partition):
    sets, memories = together(partition=partition)
    for step, count in ((1, 6), (2, 10)):
        union = memories.union(step, "cpu")
        assert union.count == count * partition**2
        images, labels = union.take(torch.arange(union.count))
        stored = torch.from_numpy(np.concatenate([one.images for one in sets])[:count])
        assert images.equal(expand(stored, partition))
        for row, label in enumerate(labels.tolist()):
            assert label == memories.labels[row // partition**2]


def test_images_that_are_normalised_otherwise_are_renewed():
    own = a_set("ab", mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.5))
    info = info_of(own.card, mean=(0.49, 0.48, 0.45), std=(0.25, 0.24, 0.26))
    renewed = normalised_as(info, own.images, own.card)
    assert renewed.dtype == np.float32
    for at in np.ndindex(*own.images.shape):
        channel = at[1]
        pixel = float(own.images[at]) * own.card.std[channel] + own.card.mean[channel]
        assert renewed[at] == pytest.approx(
            (pixel - info.mean[channel]) / info.std[channel], abs=1e-5
        )


def test_grey_classes_of_coloured_data_get_three_channels():
    grey = a_set("ab", image_shape=(1, 4, 4), mean=(0.5,), std=(0.5,))
    info = info_of(make_card(), mean=(0.5, 0.25, 0.75), std=(0.5, 0.25, 0.5))
    renewed = normalised_as(info, grey.images, grey.card)
    assert renewed.shape == (4, 3, 4, 4)
    pixels = renewed * np.reshape(info.std, (3, 1, 1)) + np.reshape(info.mean, (3, 1, 1))
    for channel in range(3):
        assert np.allclose(pixels[:, channel], grey.images[:, 0] * 0.5 + 0.5, atol=1e-6)
