"""The networks of the cross-architecture tables: their published sizes, and what they refuse."""

import itertools

import pytest
import torch
import torchvision
from torch import nn

from idm_ray.algorithm.architectures import ARCHITECTURES, ConvNetVariant
from idm_ray.algorithm.evaluate import TrainingImages, fit
from idm_ray.algorithm.networks import ConvNet
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.protocols import Protocol
from idm_ray.algorithm.randomness import generator
from idm_ray.building import (
    build_network,
    can_be_matched,
    check_network,
    fresh_network,
)
from idm_ray.config import NETWORKS
from idm_ray.errors import UserError
from idm_ray.network_names import CHOICES, ConvNetDesign
from idm_ray.torchvision_networks import torchvision_names
from tests.algorithm.making import flat_weights, normal

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


# --- ConvNets of other parts ---

DESIGNS = ["-".join(words) for words in itertools.product(*CHOICES.values())]


def normalised(maps, norm):
    """By the mean and the variance of what the norm looks at together."""
    if norm == "nonorm":
        return maps
    n, c, h, w = maps.shape
    together = {"instance": c, "layer": 1, "group": 4}.get(norm)
    if norm == "batch":
        rows, dims = maps, (0, 2, 3)
    else:
        rows, dims = maps.reshape(n, together, c // together, h, w), (2, 3, 4)
    mean, variance = rows.mean(dims, keepdim=True), rows.var(dims, correction=0, keepdim=True)
    return ((rows - mean) / (variance + 1e-5).sqrt()).reshape(maps.shape)


def pooled(maps, pooling):
    """By four pixels at a time."""
    if pooling == "nopool":
        return maps
    corners = [maps[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1)]
    stacked = torch.stack(corners)
    return stacked.mean(0) if pooling == "avg" else stacked.amax(0)


def activated(maps, activation):
    return {
        "relu": maps.clamp(min=0),
        "leakyrelu": torch.where(maps > 0, maps, 0.01 * maps),
        "sigmoid": 1 / (1 + (-maps).exp()),
    }[activation]


def logits_by_hand(parameters, images, words, depth):
    """A ConvNet from the formulas of its parts, as `words` say."""
    norm, pooling, activation = words.split("-")
    parameters, maps = iter(parameters), images
    for _ in range(depth):
        maps = nn.functional.conv2d(maps, next(parameters), next(parameters), padding=1)
        maps = normalised(maps, norm)
        if norm != "nonorm":
            scale, offset = (next(parameters).reshape(1, -1, 1, 1) for _ in range(2))
            maps = maps * scale + offset
        maps = pooled(activated(maps, activation), pooling)
    return maps.flatten(1) @ next(parameters).T + next(parameters)


def varied(words, image_shape=(3, 8, 8)):
    """A small one with weights, norms that are not the identity among them."""
    network = small(f"convnet-2-w8-{words}", image_shape).double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            parameter.add_(0.1 * normal(*parameter.shape, seed=number))
    return network


@pytest.mark.parametrize("words", DESIGNS)
def test_a_convnet_of_other_parts_is_what_its_name_says(words):
    network = varied(words)
    images = normal(4, 3, 8, 8)
    found = network(images)
    torch.testing.assert_close(found, logits_by_hand(network.parameters(), images, words, 2))
    assert network.features(images).shape == (4, 8 * (8 * 8 if "nopool" in words else 2 * 2))
    if can_be_matched(f"convnet-2-{words}"):
        torch.testing.assert_close(network(images[:1]), found[:1])


def test_the_parts_of_the_paper_make_the_paper_s_network():
    with torch.random.fork_rng():
        variant = ConvNetVariant((3, 8, 8), 4, ConvNetDesign(depth=2))
        plain = ConvNet((3, 8, 8), 4, depth=2)
    plain.load_state_dict(variant.state_dict())
    images = normal(2, 3, 8, 8).float()
    assert torch.equal(plain(images), variant(images))


def test_fused_blocks_are_those_of_the_paper_s_network_alone():
    assert type(build_network("convnet-2-w128-avg", (3, 8, 8), 4)) is ConvNet
    compiled = Numerics(compile=True)
    for name in ("convnet-2-w64", "convnet-2-max", "convnet-2-leakyrelu", "convnet-2-layer"):
        network = build_network(name, (3, 8, 8), 4)
        assert not isinstance(network, ConvNet)
        flat = FlatNetwork(network, compiled)
        flat.load(flat_weights(fresh_network(name, (3, 8, 8), 4, generator(0, "test"))))
        images = normal(2, 3, 8, 8).float()
        assert torch.equal(flat.features(images), Numerics().features(flat.network)(images))
        assert flat.gradient(flat.logits(images).sum()).isfinite().all()


@pytest.mark.parametrize("words", ["max", "nonorm", "batch-nopool"])
def test_grey_images_of_28_pixels_are_padded_to_32(words):
    name = f"convnet-3-w8-{words}"
    features = [
        build_network(name, shape, 10).head.in_features for shape in ((1, 28, 28), (1, 32, 32))
    ]
    assert features[0] == features[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("words", ["batch", "layer-max-leakyrelu", "nonorm-nopool-sigmoid"])
def test_a_convnet_of_other_parts_learns(words, precision):
    network = small(f"convnet-2-w16-{words}", (1, 8, 8))
    labels = torch.arange(16) % 2
    images = normal(16, 1, 8, 8).float() * 0.1 + labels.reshape(-1, 1, 1, 1)
    data = TrainingImages(count=16, take=lambda rows: (images[rows], labels[rows]))
    protocol = Protocol(epochs=60, drop_epoch=32, lr_net=0.05, batch_train=8, operations=())
    forward = fit(network, data, protocol, Numerics(precision=precision), (0, "test"))
    assert (forward(images).argmax(1) == labels).all()
