import pytest
import torch
from torch.nn import functional as F

from idm_ray.algorithm.numerics import FlatNetwork, Numerics, to_network_input
from idm_ray.building import build_network
from tests.algorithm.making import convnet, flat_network, flat_weights, normal

BFLOAT16 = Numerics(precision="bfloat16")


@pytest.fixture
def images():
    return normal(5, 3, 8, 8).float()


def test_a_flat_network_computes_what_the_network_does(images):
    plain, flat = convnet(), flat_network(convnet())
    torch.testing.assert_close(flat.features(images), plain.features(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flat.logits(images), plain(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flat.head(flat.features(images)), flat.logits(images))


def test_the_flat_vector_has_the_order_of_torch_s_parameters_to_vector():
    plain, flat = convnet(seed=1), flat_network(convnet(seed=2))
    assert len(flat_weights(plain)) == len(flat.weights)
    flat.load(flat_weights(plain))
    assert flat_weights(flat.network).equal(flat_weights(plain))
    for ours, theirs in zip(flat.network.parameters(), plain.parameters(), strict=True):
        assert ours.equal(theirs)


def test_the_gradient_has_the_same_order(images):
    labels = torch.tensor([0, 1, 2, 3, 0])
    plain, flat = convnet(), flat_network(convnet())
    F.cross_entropy(plain(images), labels).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in plain.parameters()])
    gradient = flat.gradient(F.cross_entropy(flat.logits(images), labels))
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)


def test_loading_copies_into_the_same_storage(images):
    flat = flat_network(convnet(seed=1))
    addresses = [p.data_ptr() for p in flat.network.parameters()]
    first = flat.weights.data_ptr()
    weights = flat_weights(convnet(seed=2))
    flat.load(weights)
    assert flat.weights.data_ptr() == first
    assert [p.data_ptr() for p in flat.network.parameters()] == addresses
    before = flat.logits(images)
    weights.zero_()
    assert flat.logits(images).equal(before)


def test_changing_the_flat_vector_changes_the_network(images):
    flat = flat_network(convnet())
    flat.weights.zero_()
    assert (flat.logits(images) == 0).all()


def test_a_flat_network_is_made_of_an_unallocated_one():
    flat = FlatNetwork(build_network("convnet-2", (3, 8, 8), 4), Numerics())
    assert {p.device.type for p in flat.network.parameters()} == {"cpu"}
    assert flat.weights.dtype == torch.float32


def test_a_frozen_network_has_gradients_for_images_only(images):
    flat = flat_network(convnet())
    assert flat.freeze() is flat
    images.requires_grad_()
    flat.logits(images).sum().backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in flat.network.parameters())
    assert not flat.features(images.detach()).requires_grad


@pytest.mark.parametrize("numerics", [Numerics(), BFLOAT16])
def test_outputs_and_gradients_are_float32_in_either_precision(images, numerics):
    flat = flat_network(convnet(), numerics)
    images.requires_grad_()
    features = flat.features(images)
    logits = flat.head(features)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.autograd.grad(logits.sum(), images, retain_graph=True)[0].dtype == torch.float32
    assert flat.gradient(logits.sum()).dtype == torch.float32


def test_bfloat16_is_close_to_float32_but_is_not_it(images):
    exact, rounded = flat_network(convnet()), flat_network(convnet(), BFLOAT16)
    difference = (exact.logits(images) - rounded.logits(images)).abs().max()
    assert 0 < difference < 0.1


def test_the_first_layer_s_layout_avoids_the_slow_norm_only():
    assert Numerics().memory_format is torch.channels_last
    assert BFLOAT16.memory_format is torch.contiguous_format
    assert Numerics(precision="bfloat16", device="cuda").memory_format is torch.channels_last


def test_compiled_code_follows_newly_loaded_weights(images):
    compiled = flat_network(convnet(seed=1), Numerics(compile=True))
    compiled.logits(images)
    compiled.load(flat_weights(convnet(seed=2)))
    expected = convnet(seed=2)(images)
    torch.testing.assert_close(compiled.logits(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("count", "at_once", "sizes"),
    [(5, 5, [5]), (5, 100, [5]), (6, 5, [3, 3]), (10, 4, [4, 4, 2]), (3, 1, [1, 1, 1])],
)
def test_a_batch_is_cut_into_nearly_equal_parts_of_what_goes_through_at_once(count, at_once, sizes):
    batch = torch.arange(count)
    parts = Numerics(images_per_pass=at_once).parts(batch)
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).equal(batch)


def test_pixels_are_normalised_by_channel():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    mean = torch.tensor([0.5, 0.2, 0.25]).reshape(-1, 1, 1)
    std = torch.tensor([0.5, 1.0, 0.25]).reshape(-1, 1, 1)
    normalised = to_network_input(pixels, mean, std)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.flatten(), torch.tensor([-1.0, 0.0, 3.0]))
