import pytest

from idm_ray.algorithm.flops import count_flops
from idm_ray.building import build_network


def test_a_network_of_one_block_is_counted_as_by_hand():
    # 8x8 grey images: 3x3 convolution to 128 channels, pooled to 4x4, a head of 10 outputs.
    convolution = 2 * 9 * 1 * 128 * 64
    head = 2 * 128 * 16 * 10
    found = count_flops(build_network("convnet-1", (1, 8, 8), 10), (1, 8, 8))
    assert found.forward == convolution + head
    # The first layer's gradient for its input is needed in matching only, that of its weights in
    # training only.
    assert found.match == 2 * (convolution + head)
    assert found.train == 2 * convolution + 3 * head


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "forward", "train", "match"),
    [
        ("convnet-3", (3, 32, 32), 10, 0.1015e9, 0.2974e9, 0.2030e9),
        ("convnet-4", (3, 64, 64), 200, 0.4255e9, 1.248e9, 0.851e9),
        ("convnet-6", (3, 224, 224), 100, 5.275e9, 15.48e9, 10.55e9),
    ],
)
def test_the_paper_s_networks_cost_what_they_are_known_to(
    name, shape, num_classes, forward, train, match
):
    found = count_flops(build_network(name, shape, num_classes), shape)
    expected = pytest.approx((forward, train, match), rel=1e-3)
    assert (found.forward, found.train, found.match) == expected


@pytest.mark.parametrize(
    ("name", "shape", "times"), [("convnet-3", (3, 32, 32), 7.79), ("resnet18", (3, 32, 32), 8.10)]
)
def test_gradients_of_gradients_cost_about_eight_passes(name, shape, times):
    found = count_flops(build_network(name, shape, 10), shape)
    assert found.second_order == pytest.approx(times * found.forward, rel=1e-3)
