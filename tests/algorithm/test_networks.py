import math

import numpy as np
import pytest
import torch

from idm_ray.algorithm.networks import ConvNet, default_network, init_parameters
from idm_ray.algorithm.randomness import generator
from idm_ray.building import build_network
from idm_ray.errors import UserError
from tests import reference
from tests.algorithm.making import convnet, flat_weights, normal


def reference_logits(network, images, padding=1):
    double = [p.detach().double().numpy() for p in network.parameters()]
    blocks = [double[i : i + 4] for i in range(0, len(double) - 2, 4)]
    features = reference.convnet_features(images.numpy(), blocks, padding)
    return features, reference.linear(features, *double[-2:])


@pytest.mark.parametrize(
    ("depth", "image_shape", "num_classes", "num_features", "num_parameters"),
    [
        (3, (3, 32, 32), 10, 2048, 320_010),
        (3, (3, 32, 32), 100, 2048, 504_420),
        (3, (3, 64, 64), 200, 8192, 1_938_120),
        (4, (3, 64, 64), 200, 2048, 857_160),
        (6, (3, 224, 224), 100, 1152, 858_340),
        (3, (1, 28, 28), 10, 2048, 317_706),
        (2, (1, 8, 8), 10, 512, 154_506),
    ],
)
def test_networks_have_the_published_sizes(
    depth, image_shape, num_classes, num_features, num_parameters
):
    network = build_network(f"convnet-{depth}", image_shape, num_classes)
    assert sum(p.numel() for p in network.parameters()) == num_parameters
    assert network.head.in_features == num_features
    with torch.device("meta"):
        images = torch.empty(2, *image_shape)
    assert network.features(images).shape == (2, num_features)
    assert network(images).shape == (2, num_classes)


@pytest.mark.parametrize(("image_shape", "depth"), [((3, 8, 8), 2), ((1, 9, 7), 2), ((3, 8, 8), 3)])
def test_features_and_logits_equal_the_reference(image_shape, depth):
    network = convnet(image_shape, num_classes=5, depth=depth).double()
    images = normal(2, *image_shape)
    features, logits = reference_logits(network, images)
    np.testing.assert_allclose(network.features(images).detach(), features, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(network(images).detach(), logits, rtol=1e-9, atol=1e-10)
    assert network.head(network.features(images)).equal(network(images))


def test_the_torch_half_of_the_reference_equals_its_numpy_half():
    network = convnet().double()
    images = normal(2, 3, 8, 8)
    blocks, _ = reference.convnet_parts(
        flat_weights(network), channels=3, depth=2, num_features=512, num_classes=4
    )
    features = reference.convnet_features_torch(images, blocks)
    np.testing.assert_allclose(features, reference_logits(network, images)[0], atol=1e-10)


def test_one_channel_of_28x28_is_padded_to_32x32():
    network = convnet((1, 28, 28), num_classes=10, depth=3).double()
    images = normal(1, 1, 28, 28)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    wide = ConvNet((1, 32, 32), 10, depth=3).double()
    wide.load_state_dict(network.state_dict())
    torch.testing.assert_close(network.features(images), wide.features(padded))


def test_three_channels_of_28x28_are_not_padded():
    assert build_network("convnet-3", (3, 28, 28), 10).head.in_features == 128 * 3 * 3


def test_features_do_not_depend_on_a_change_of_scale_and_brightness_of_the_whole_batch():
    # Why the loss hardly depends on the scale of pixels: the first norm takes it out.
    network = convnet().double()
    with torch.no_grad():
        network.layers[0].bias.zero_()
    images = normal(2, 3, 8, 8)
    torch.testing.assert_close(
        network.features(1000 * images), network.features(10 * images), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("image_shape", "deepest"),
    [((3, 8, 8), 3), ((3, 32, 32), 5), ((3, 9, 40), 3), ((1, 28, 28), 5)],
)
def test_a_depth_whose_last_norm_would_see_one_pixel_is_refused(image_shape, deepest):
    assert build_network(f"convnet-{deepest}", image_shape, 10).head.in_features > 0
    with pytest.raises(ValueError, match=f"use convnet-{deepest} at most") as raised:
        build_network(f"convnet-{deepest + 1}", image_shape, 10)
    assert f"convnet-{deepest + 1} would reduce" in str(raised.value)


@pytest.mark.parametrize("name", ["resnet19", "convnet", "convnet-", "convnet-3b", ""])
def test_an_unknown_network_is_refused_by_name(name):
    with pytest.raises(UserError, match=f"unknown network '{name}'; (did you mean|known are)"):
        build_network(name, (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("size", "depth"), [(4, 2), (8, 2), (16, 2), (28, 3), (32, 3), (64, 4), (128, 5), (224, 6)]
)
def test_the_default_depth_follows_the_image_size(size, depth):
    assert default_network((3, size, size)) == f"convnet-{depth}"
    assert default_network((3, 2 * size, size)) == f"convnet-{depth}"
    assert build_network(f"convnet-{depth}", (3, size, size), 10).head.in_features > 0


def test_a_network_is_built_without_allocating_its_parameters():
    network = build_network("convnet-3", (3, 32, 32), 10)
    assert {p.device.type for p in network.parameters()} == {"meta"}


def initialised(*key):
    network = build_network("convnet-2", (3, 8, 8), 10).to_empty(device="cpu")
    init_parameters(network, generator(*key))
    return network


def test_the_initialisation_is_torch_s_default_one():
    network = initialised(0)
    for layer in (network.layers[0], network.layers[4], network.head):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
        # Uniform: the largest of many comes close to the bound, and the deviation is its 1/sqrt(3).
        assert layer.weight.abs().max() > 0.99 * bound
        assert abs(layer.weight.mean()) < 0.05 * bound
        assert abs(layer.weight.std() / (bound / math.sqrt(3)) - 1) < 0.03
        assert layer.bias.unique().numel() > 1
    for norm in (network.layers[1], network.layers[5]):
        assert (norm.weight == 1).all()
        assert (norm.bias == 0).all()
        assert norm.eps == 1e-5


def test_torch_s_own_default_stays_within_the_same_bounds():
    # Should a later torch change its default, this says so.
    state = torch.get_rng_state()
    network = ConvNet((3, 8, 8), 10, depth=2)
    torch.set_rng_state(state)
    for layer in (network.layers[0], network.layers[4], network.head):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert layer.weight.abs().max() <= bound
        assert layer.weight.abs().max() > 0.99 * bound
        assert layer.bias.abs().max() <= bound


def test_the_same_generator_gives_the_same_weights_and_another_gives_others():
    first, again, other = (flat_weights(initialised(*key)) for key in [(1, 2), (1, 2), (1, 3)])
    assert first.equal(again)
    assert not first.equal(other)


def test_building_and_initialising_leave_the_global_random_state_alone():
    state = torch.get_rng_state()
    weights = flat_weights(initialised(0))
    assert torch.get_rng_state().equal(state)
    other = torch.manual_seed(torch.initial_seed() + 1)
    try:
        assert flat_weights(initialised(0)).equal(weights)
    finally:
        torch.set_rng_state(state)
    assert other is torch.default_generator
