import importlib
import os
import threading

import pytest

from idm_ray.bench.process import InProcess
from idm_ray.errors import IdmRayError


def test_methods_are_called_in_another_process_which_ends_with_the_block():
    with InProcess(importlib.import_module, "os") as served:
        pid = served.call("getpid")
        assert pid != os.getpid()
        assert served.call("getpid") == pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_object_keeps_its_state_and_its_errors_arrive_here():
    with InProcess(list) as served:
        served.call("append", 3)
        assert served.call("pop") == 3
        with pytest.raises(IndexError):
            served.call("pop")


def test_an_error_of_building_arrives_here():
    with pytest.raises(ValueError, match="invalid literal"):
        InProcess(int, "x")


def test_a_process_that_dies_is_named_with_its_status():
    with InProcess(importlib.import_module, "os") as served:
        for _ in range(2):  # in a call, and before one
            with pytest.raises(IdmRayError, match="died with exit status 3;"):
                served.call("_exit", 3)


def test_a_process_whose_other_end_is_gone_leaves_by_itself():
    served = InProcess(threading.Event)
    served._pipe.close()
    served._process.join(20)
    assert served._process.exitcode == 0
