from pathlib import Path

import pytest

import idm_ray.methods
from idm_ray.config import METHODS, RunConfig, option_names
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method
from idm_ray.methods.method import Matching, Selecting, all_but

COMMON = {"__init__", "catalog", "coreset", "distributions", "gradients", "method"}


def test_every_name_has_a_module_and_every_module_a_name():
    modules = {path.stem for path in Path(idm_ray.methods.__file__).parent.glob("*.py")} - COMMON
    assert modules == {name.replace("-", "_") for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_sets_and_lacks_are_options_and_give_a_config(name):
    method = find_method(name)
    settings = dict(method.settings({"batch_real": 5000}))
    assert {*settings, *method.unused} <= set(option_names())
    assert not {"method", "ipc", "seed", "network", "recipe"} & {*settings, *method.unused}
    RunConfig.from_flat({"method": name, **settings})
    assert isinstance(method.how, Matching | Selecting)
    assert set(method.compared_with) <= {"start", "random"}


def test_a_method_that_chooses_takes_no_step_and_keeps_images_whole():
    for name in METHODS:
        method = find_method(name)
        if isinstance(method.how, Selecting):
            settings = method.settings({})
            assert (settings["iterations"], settings["partition"]) == (0, 1)
            assert "start" not in method.compared_with


@pytest.mark.parametrize(("written", "meant"), [("idn", "idm"), ("herdin", "herding")])
def test_an_unknown_method_is_refused_with_the_nearest(written, meant):
    with pytest.raises(UserError, match=f"unknown method '{written}'; did you mean '{meant}'"):
        find_method(written)


def test_all_but_leaves_what_every_method_has():
    left = all_but("lr_net")
    assert {"lambda_reg", "batch_train", "iterations", "queue_size"} < set(left)
    assert not {"lr_net", "ipc", "method", "seed", "network", "data", "repeats"} & set(left)
