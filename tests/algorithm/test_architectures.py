"""The networks of the cross-architecture tables: their published sizes, and what they refuse."""

import pytest
import torch
import torchvision
from torch import nn

from idm_ray.algorithm.architectures import ARCHITECTURES
from idm_ray.algorithm.randomness import generator
from idm_ray.building import (
    build_network,
    can_be_matched,
    check_network,
    fresh_network,
)
from idm_ray.config import NETWORKS
from idm_ray.errors import UserError
from idm_ray.torchvision_networks import torchvision_names
from tests.algorithm.making import normal

RESNETS = {
    "resnet18": (512, 11_173_962),
    "resnet18-bn": (512, 11_173_962),
    "resnet18-ap": (8192, 11_250_762),
    "resnet18-ap-bn": (8192, 11_250_762),
}
SIZES = {
    "alexnet": (3072, 1_872_202),
    # As many norms as convolutions, each of two numbers a channel.
    "alexnet-bn": (3072, 1_872_202 + 2 * (128 + 192 + 256 + 192 + 192)),
    "vgg11": (512, 9_231_114),
    "vgg11-bn": (512, 9_231_114),
    **RESNETS,
}


def small(name, image_shape=(3, 32, 32), seed=0):
    return fresh_network(name, image_shape, 10, generator(seed, "test"))


def test_the_config_knows_the_names():
    assert tuple(ARCHITECTURES) == NETWORKS == tuple(SIZES)


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_networks_have_the_published_sizes(name, size):
    network = build_network(name, (3, 32, 32), 10)
    assert (network.head.in_features, sum(p.numel() for p in network.parameters())) == size
    images = torch.empty(2, 3, 32, 32, device="meta")
    assert network.features(images).shape == (2, size[0])
    assert network(images).shape == (2, 10)


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.endswith("-bn")])
def test_an_image_s_embedding_does_not_depend_on_its_neighbours(name):
    assert can_be_matched(name)
    network = small(name)
    images = normal(3, 3, 32, 32).float()
    alone = network.features(images[:1])
    torch.testing.assert_close(network.features(images)[:1], alone, rtol=1e-4, atol=1e-4)


def test_the_others_look_at_a_batch():
    for name in ("vgg11-bn", "torchvision/resnet18"):
        assert not can_be_matched(name)
        assert any(isinstance(m, nn.BatchNorm2d) for m in small(name).modules())


@pytest.mark.parametrize("name", ["alexnet", "vgg11", "resnet18", "resnet18-ap-bn"])
@pytest.mark.parametrize("image_shape", [(1, 28, 28), (1, 32, 32), (3, 64, 64), (3, 48, 80)])
def test_other_sizes_have_another_head(name, image_shape):
    network = build_network(name, image_shape, 7)
    images = torch.empty(2, *image_shape, device="meta")
    assert network(images).shape == (2, 7)


def test_the_halves_of_a_resnet_are_strides_or_poolings():
    strided = [m for m in small("resnet18").modules() if isinstance(m, nn.Conv2d)]
    pooled = [m for m in small("resnet18-ap").modules() if isinstance(m, nn.Conv2d)]
    assert sum(m.stride == (2, 2) for m in strided) == 6
    assert all(m.stride == (1, 1) for m in pooled)
    assert all(m.bias is None for m in (*strided, *pooled))


def test_a_basic_block_adds_what_it_was_given():
    block = small("resnet18").layers[3]
    images = normal(2, 64, 8, 8).float()
    for parameter in block.body[-1].parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(images), images.relu())


@pytest.mark.parametrize("name", ["alexnet", "resnet18-bn", "torchvision/squeezenet1_1"])
def test_weights_follow_from_the_generator_alone(name):
    shape = (3, 64, 64)
    state = torch.random.get_rng_state()
    first, again, other = (small(name, shape, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert all(tensor.isfinite().all() for tensor in first.state_dict().values())


def test_own_weights_are_spread_as_torch_s_own():
    ours, theirs = small("vgg11").layers[4].weight, nn.Conv2d(64, 128, 3).weight
    bound = (64 * 9) ** -0.5
    assert ours.shape == theirs.shape
    assert ours.abs().max() <= bound
    torch.testing.assert_close(ours.std(), theirs.std(), rtol=0.03, atol=0)


def test_torchvision_s_networks_take_grey_images_too():
    network = small("torchvision/resnet18").eval()
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert isinstance(network.network, torchvision.models.ResNet)
    assert "torchvision/resnet50" in torchvision_names()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vgg11", (3, 16, 16), "got 3x16x16: nothing would be left"),
        ("alexnet", (3, 4, 4), "got 3x4x4: nothing would be left"),
        ("torchvision/alexnet", (3, 32, 32), "torchvision/alexnet cannot take images of 3x32x32"),
        ("torchvision/vit_b_16", (3, 32, 32), "torchvision/vit_b_16 cannot take images of 3x32"),
    ],
)
def test_images_that_are_too_small_are_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        check_network(name, shape, 10)


@pytest.mark.parametrize("name", ["resnet19", "torchvision/resnet19"])
def test_an_unknown_name_is_refused_with_the_nearest(name):
    near = name.replace("19", "18")
    with pytest.raises(UserError, match=f"unknown network '{name}'; did you mean '{near}'"):
        check_network(name, (3, 32, 32), 10)
