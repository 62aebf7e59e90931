import pytest
import torch
from torch.nn import functional as F

from idm_ray.algorithm.fused import fused_features
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.building import build_network
from idm_ray.native import library
from tests.algorithm.making import convnet, flat_network, normal

pytestmark = pytest.mark.skipif(library.load().functions is None, reason="no C++ compiler")
needs_dot_products = pytest.mark.skipif(
    not library.load().has_convolutions, reason="a processor without AVX512-BF16"
)

FUSED = Numerics(compile=True)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 12, 10), (1, 16, 16)])
def test_features_and_all_gradients_are_those_of_the_plain_network(shape):
    plain, fused = convnet(shape), flat_network(convnet(shape), FUSED)
    images = normal(5, *shape).float()
    theirs, ours = images.clone().requires_grad_(), images.clone().requires_grad_()
    expected, found = plain.features(theirs), fused.features(ours)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    direction = normal(*expected.shape).float()
    torch.testing.assert_close(
        torch.autograd.grad(found, ours, direction, retain_graph=False)[0],
        torch.autograd.grad(expected, theirs, direction)[0],
        rtol=1e-3,
        atol=1e-4,
    )
    labels = torch.tensor([0, 1, 2, 3, 0])
    wanted = torch.autograd.grad(F.cross_entropy(plain(images), labels), plain.parameters())
    gradient = fused.gradient(F.cross_entropy(fused.logits(images), labels))
    expected = torch.cat([g.reshape(-1) for g in wanted])
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def errors_against_float32(own):
    """Relative errors in bfloat16 of features, of gradients of the images, and of the weights."""
    numerics = Numerics(compile=True, precision="bfloat16", own_convolutions=own)
    images, labels = normal(32, 3, 32, 32).float(), torch.arange(32) % 4
    results = []
    for network in (flat_network(convnet((3, 32, 32)), n) for n in (Numerics(), numerics)):
        leaf = images.clone().requires_grad_()
        features = network.features(leaf)
        direction = normal(*features.shape).float()
        (d_images,) = torch.autograd.grad(features, leaf, direction)
        d_weights = network.gradient(F.cross_entropy(network.logits(images), labels))
        results.append((features.detach(), d_images, d_weights))
    return [
        float((found - exact).norm() / exact.norm()) for exact, found in zip(*results, strict=True)
    ]


@needs_dot_products
@pytest.mark.parametrize("own", ["first", "all"])
def test_own_convolutions_err_at_most_half_as_much_again_as_torch_s_in_bfloat16(own):
    of_torch, of_own = errors_against_float32("none"), errors_against_float32(own)
    assert all(0 < ours < 1.6 * theirs for ours, theirs in zip(of_own, of_torch, strict=True))
    assert of_own[0] < 0.01


def test_a_second_gradient_of_the_same_pass_is_refused_and_not_wrong():
    network = flat_network(convnet(), FUSED)
    images = normal(2, 3, 8, 8).float().requires_grad_()
    features = network.features(images).sum()
    torch.autograd.grad(features, images, retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(features, images)


def test_a_frozen_network_has_gradients_for_images_alone():
    network = flat_network(convnet(), FUSED).freeze()
    images = normal(2, 3, 8, 8).float().requires_grad_()
    network.logits(images).sum().backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is None for p in network.network.parameters())


def test_the_bias_before_a_norm_has_no_gradient():
    network = flat_network(convnet(), FUSED)
    features = network.features(normal(2, 3, 8, 8).float())
    layer, _ = next(network.network.each_block())
    (gradient,) = torch.autograd.grad(features.sum(), [layer.bias])
    assert gradient.equal(torch.zeros_like(gradient))


def test_without_gradients_nothing_is_kept():
    network = flat_network(convnet(), FUSED)
    with torch.no_grad():
        assert network.features(normal(2, 3, 8, 8).float()).grad_fn is None


def test_blocks_of_an_odd_number_of_images_or_pixels_are_no_special_case():
    network = FlatNetwork(build_network("convnet-2", (3, 11, 9), 4), Numerics())
    network.weights.normal_(generator=torch.Generator().manual_seed(0))
    images = normal(3, 3, 11, 9).float()
    found = fused_features(network.network, images, dtype=torch.float32, own="none", threads=1)
    torch.testing.assert_close(found, network.features(images), rtol=1e-4, atol=1e-4)
