import pytest

from idm_ray.config import RunConfig, option_names
from idm_ray.same_numbers import NEUTRAL_OPTIONS, differences
from tests.test_config import OTHERS

STORED = RunConfig().flat() | {"recipe": "cifar10", "threads": 4, "network": "convnet-3"}

# A promise: whoever begins a run with one of these has to keep it.
CHANGING = """
size flips classes test_fraction val_fraction limit_per_class
method ipc iterations seed network batch_real lambda_reg partition start image_step lr_img
momentum_img num_matched_models outer_rounds inner_epochs classes_per_group
queue_size queue_init push_interval train_interval num_trained_models train_steps batch_train
lr_net accuracy_window pretrained pretrain_steps pretrained_classes
protocol repeats eval_epochs eval_interval eval_at eval_split select baselines whole_epochs
device precision compile images_per_pass threads
"""


def test_every_option_is_known_to_change_the_numbers_or_not():
    changing = CHANGING.split()
    assert [name for name in option_names() if name not in NEUTRAL_OPTIONS] == ["recipe", *changing]
    assert set(NEUTRAL_OPTIONS) < set(option_names())


@pytest.mark.parametrize("name", CHANGING.split())
def test_what_changes_the_numbers_is_told(name):
    (line,) = differences(STORED, {name: OTHERS[name]})
    assert line.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["recipe", *NEUTRAL_OPTIONS])
def test_what_does_not_change_them_is_not(name):
    assert differences(STORED, {name: OTHERS[name]}) == ()


def test_a_line_says_what_was_and_what_is_asked_for_in_the_order_of_asking():
    given = {"lambda_reg": 0.1, "start": "noise", "ipc": 1, "size": 32}
    assert differences(STORED, given) == (
        "lambda_reg 0.5 there, 0.1 now",
        "start tiles there, noise now",
        "size unset there, 32 now",
    )


def test_the_same_again_is_no_difference():
    assert differences(STORED, STORED) == ()
    assert differences(STORED, {}) == ()
    assert differences(STORED, {"lr_img": 0.2, "wait_s": 1, "ipc": 1.0}) == ()


def test_auto_asks_for_what_auto_was_resolved_to():
    names = ("threads", "device", "precision", "compile", "images_per_pass", "network")
    assert differences(STORED, dict.fromkeys(names, "auto")) == ()
    assert differences(STORED, {"threads": 2}) == ("threads 4 there, 2 now",)


def test_a_network_is_the_same_however_it_is_written():
    assert differences(STORED, {"network": "convnet-3-relu-w128"}) == ()
    (line,) = differences(STORED, {"network": "convnet-3-w64"})
    assert line == "network convnet-3 there, convnet-3-w64 now"


def test_a_long_value_is_cut():
    names = ",".join(f"n{number:08d}" for number in range(1000))
    (line,) = differences(STORED, {"classes": names})
    assert line == f"classes unset there, {names[:57]}... now"
