import pytest
import torch

from idm_ray.bench import flops
from idm_ray.bench.flops import iteration_work, matmul_flops_per_s
from idm_ray.bench.settings import SETTINGS
from tests.bench.making import plan_of


def test_an_iteration_of_cifar10_at_10_per_class_needs_1_86_teraflop():
    work = iteration_work(plan_of(SETTINGS["cifar10-ipc10"]))
    assert work.images == 2560 + 400 + 20 * 256
    assert work.trained_images == 20 * 256
    assert work.flops / 1e12 == pytest.approx(1.86, abs=0.005)


def test_training_every_30_iterations_counts_a_thirtieth():
    work = iteration_work(plan_of(SETTINGS["cifar10-ipc10-interval30"]))
    assert work.trained_images == 20 * 256
    assert work.images == pytest.approx(2560 + 400 + 20 * 256 / 30)


def test_the_peak_is_a_plausible_number(monkeypatch):
    monkeypatch.setitem(flops._MATRIX_SIDE, "cpu", 256)
    assert 1e9 < matmul_flops_per_s("cpu", torch.float32) < 1e15
