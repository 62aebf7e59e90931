import os

import numpy as np
import pytest
import torch

from idm_ray.errors import UserError
from idm_ray.host import num_cores
from idm_ray.machine import look_around, peak_memory_bytes, reset_peak_memory

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
needs_none = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.mark.parametrize(("device", "assigned"), [("cpu", False), ("cpu", True), ("auto", False)])
def test_without_a_gpu_or_without_wanting_one_the_cpu_is_used(device, assigned):
    found = look_around(device, gpu_assigned=assigned, compiling=False)
    assert found.device == "cpu"
    assert found.name
    assert num_cores() >= 1
    assert isinstance(found.bfloat16, bool)
    assert isinstance(found.obstacle, str)


@needs_none
@pytest.mark.parametrize(("device", "assigned"), [("cuda", False), ("cuda", True), ("auto", True)])
def test_a_gpu_that_torch_cannot_use_is_an_error_that_names_the_remedy(device, assigned):
    with pytest.raises(UserError, match=r"^expected a GPU, but torch finds none.* --device cpu "):
        look_around(device, gpu_assigned=assigned, compiling=False)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_is_used_when_it_is_assigned_or_asked_for():
    assert look_around("auto", gpu_assigned=True, compiling=False).device == "cuda"
    assert look_around("cuda", gpu_assigned=False, compiling=False).device == "cuda"


def test_peak_memory_grows_with_what_is_allocated_and_stays():
    before = peak_memory_bytes()
    assert before > 2**20
    # What was freed since the peak may be taken again without growth, so: all of it and more.
    more = np.ones(before + 2**26, dtype=np.uint8)
    peak = peak_memory_bytes()
    assert peak > before + 2**25
    del more
    assert peak_memory_bytes() > before + 2**25


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="not allowed here")
def test_the_peak_can_begin_anew():
    more = np.ones(2**27, dtype=np.uint8)
    peak = peak_memory_bytes()
    del more
    reset_peak_memory()
    assert peak_memory_bytes() < peak - 2**26
