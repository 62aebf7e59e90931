import numpy as np
import pytest
import torch

from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.randomness import generator
from idm_ray.analysis.features import FeatureSpace, embed, embed_set, feature_network
from idm_ray.analysis.sets import read_sets
from idm_ray.errors import CondensedSetError
from tests import reference
from tests.analysis.making import digit_images, digits_card, digits_plan, write_set


def weights_of(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def test_an_untrained_network_is_what_training_begins_with():
    plan, _ = digits_plan(seed=3)
    network, report = feature_network(plan, 0)
    assert report is None
    start = plan.build_network().to_empty(device="cpu")
    init_parameters(start, generator(3, "pretrain", 0))
    assert weights_of(network.network).equal(weights_of(start))
    other, _ = feature_network(digits_plan(seed=4)[0], 0)
    assert not weights_of(network.network).equal(weights_of(other.network))


def test_a_trained_network_is_the_first_of_the_pretrained_ones():
    plan, _ = digits_plan(pretrain_steps=4)
    network, report = feature_network(plan, 1)
    assert (report.member, report.steps) == (0, 4)
    again, _ = feature_network(plan, 1)
    assert weights_of(network.network).equal(weights_of(again.network))
    untrained, _ = feature_network(plan, 0)
    assert not weights_of(network.network).equal(weights_of(untrained.network))


def test_features_do_not_depend_on_how_many_go_through_at_once():
    images = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    few, many = (
        embed(feature_network(digits_plan(images_per_pass=n)[0], 0)[0], images) for n in (2, 64)
    )
    assert few.shape == (7, 512)
    torch.testing.assert_close(few, many)


def test_tiles_are_samples_of_their_image_s_class(tmp_path):
    plan, dataset = digits_plan()
    images = digit_images(plan.info, dataset)
    card = digits_card(plan.info, partition=2)
    (one,) = read_sets([write_set(tmp_path / "set.parquet", images, card)])
    network, _ = feature_network(plan, 0)
    features, labels = embed_set(network, one, plan)
    tiles = reference.expand(images.astype(np.float64), 2)
    assert features.shape == (len(images) * 4, 512)
    expected = embed(network, torch.from_numpy(tiles.astype(np.float32)))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert labels.tolist() == [label for label in range(10) for _ in range(3 * 4)]


def test_a_set_is_brought_to_the_normalisation_of_the_data(tmp_path):
    plan, dataset = digits_plan()
    images = digit_images(plan.info, dataset)
    (mean,), (std,) = plan.info.mean, plan.info.std
    other = digits_card(plan.info, mean=(0.1,), std=(0.5,))
    moved = ((images * std + mean - 0.1) / 0.5).astype(np.float32)
    files = [
        write_set(tmp_path / "own.parquet", images, digits_card(plan.info)),
        write_set(tmp_path / "other.parquet", moved, other),
    ]
    network, _ = feature_network(plan, 0)
    (own, _), (renormalised, _) = (embed_set(network, one, plan) for one in read_sets(files))
    assert own.equal(embed(network, torch.from_numpy(images)))
    torch.testing.assert_close(renormalised, own, rtol=1e-3, atol=1e-4)


def test_features_that_are_no_numbers_are_refused(tmp_path):
    plan, dataset = digits_plan()
    images = digit_images(plan.info, dataset)
    images[4] = 3e38
    path = write_set(tmp_path / "set.parquet", images, digits_card(plan.info))
    network, _ = feature_network(plan, 0)
    with pytest.raises(CondensedSetError) as raised:
        embed_set(network, read_sets([path])[0], plan)
    assert str(raised.value) == (
        f"{path}: expected images whose features are finite numbers, found others; condense anew"
    )


def test_a_space_says_what_it_is():
    space = FeatureSpace(
        network="convnet-3",
        epochs=5,
        training_images=50_000,
        test_accuracy=0.6789,
        split="test",
        num_features=2048,
        precision="bfloat16",
        seed=0,
    )
    assert str(space) == "convnet-3, trained for 5 epochs on 50000 images, test accuracy 67.9 %"
    untrained = FeatureSpace(
        network="convnet-2",
        epochs=0,
        training_images=9,
        test_accuracy=0.1,
        split="validation",
        num_features=512,
        precision="float32",
        seed=0,
    )
    assert str(untrained) == "convnet-2, untrained, validation accuracy 10.0 %"
