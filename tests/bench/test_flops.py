import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from idm_ray.bench import flops
from idm_ray.bench.flops import convnet_flops, iteration_work, matmul_flops_per_s
from idm_ray.bench.published import ConvNet
from idm_ray.bench.settings import SETTINGS
from tests.bench.making import TINY, plan_of


@pytest.mark.parametrize(
    ("side", "classes", "depth", "forward", "training", "synthetic"),
    [
        (32, 10, 3, 0.1015, 0.2974, 0.2030),
        (64, 200, 4, 0.4255, 1.248, 0.851),
        (224, 100, 6, 5.275, 15.48, 10.55),
    ],
)
def test_counts_agree_with_the_table_worked_out_by_hand(
    side, classes, depth, forward, training, synthetic
):
    found = convnet_flops((3, side, side), classes, depth)
    each = [found.forward, found.training, found.synthetic]
    assert [count / 1e9 for count in each] == pytest.approx(
        [forward, training, synthetic], rel=1e-3
    )


def test_counts_agree_with_what_torch_counts():
    network, images = ConvNet((3, 16, 16), 5, depth=3), torch.randn(2, 3, 16, 16)
    found = convnet_flops((3, 16, 16), 5, 3)

    def counted(work):
        with FlopCounterMode(display=False) as counter:
            work()
        return counter.get_total_flops() / 2

    assert counted(lambda: network(images)) == found.forward
    assert counted(lambda: network(images).sum().backward()) == found.training
    network.requires_grad_(False)
    leaf = images.requires_grad_()
    assert counted(lambda: network(leaf).sum().backward()) == found.synthetic


def test_grey_images_of_28_pixels_count_as_padded():
    wide = convnet_flops((1, 32, 32), 10, 3)
    assert convnet_flops((1, 28, 28), 10, 3) == wide


def test_an_iteration_of_cifar10_at_10_per_class_needs_1_86_teraflop():
    work = iteration_work(plan_of(SETTINGS["cifar10-ipc10"]))
    assert work.images == 2560 + 400 + 20 * 256
    assert work.trained_images == 20 * 256
    assert work.flops / 1e12 == pytest.approx(1.86, abs=0.005)


def test_training_every_30_iterations_counts_a_thirtieth():
    work = iteration_work(plan_of(SETTINGS["cifar10-ipc10-interval30"]))
    assert work.trained_images == 20 * 256
    assert work.images == pytest.approx(2560 + 400 + 20 * 256 / 30)


def test_small_classes_count_what_they_have():
    work = iteration_work(plan_of(TINY, batch_real=100, batch_train=100, queue_init=1))
    assert work.images == 18 + 3 * 2 * 4 + 2 * 2 * 18


def test_the_peak_is_a_plausible_number(monkeypatch):
    monkeypatch.setitem(flops._MATRIX_SIDE, "cpu", 256)
    assert 1e9 < matmul_flops_per_s("cpu", torch.float32) < 1e15
