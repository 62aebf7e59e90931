import math

import pytest

from idm_ray.algorithm.augment import OPERATIONS
from idm_ray.algorithm.protocols import Protocol, named_protocol, whole_data
from idm_ray.config import PROTOCOLS


def named(name, epochs=1000, operations=OPERATIONS):
    return named_protocol(name, epochs, lr_net=0.01, batch_train=256, operations=list(operations))


@pytest.mark.parametrize(("epochs", "drop"), [(1000, 502), (300, 152), (20, 12), (1, 2)])
def test_the_paper_s_protocol_drops_the_learning_rate_after_half_of_the_epochs(epochs, drop):
    expected = Protocol(
        epochs=epochs, drop_epoch=drop, lr_net=0.01, batch_train=256, operations=OPERATIONS
    )
    assert named("paper", epochs) == expected
    rates = [expected.lr(epoch) for epoch in range(epochs)]
    assert rates == [0.01] * min(epochs, drop) + [0.001] * (epochs - min(epochs, drop))
    assert [e for e in range(epochs + 5) if expected.begins_anew(e)] == [drop] * (drop < epochs + 5)


def test_quick_is_the_paper_s_in_fewer_epochs():
    assert named("quick", 200) == named("paper", 200)
    assert PROTOCOLS["quick"] == {"repeats": 3, "eval_epochs": 200}


def test_dc_has_no_augmentation_and_300_epochs():
    assert named("dc").operations == ()
    assert named("dc").cutmix == 0
    assert PROTOCOLS["dc"]["eval_epochs"] == 300


def test_strong_goes_down_a_cosine_with_one_optimiser_and_mixes():
    strong = named("strong", 2000)
    assert strong.lr(0) == 0.01
    assert strong.lr(1000) == pytest.approx(0.005)
    assert strong.lr(500) == pytest.approx(0.005 * (1 + math.sqrt(0.5)))
    assert 0 < strong.lr(1999) < 1e-7
    assert not any(strong.begins_anew(epoch) for epoch in range(2000))
    assert strong.operations == OPERATIONS
    assert strong.cutmix == 0.5


@pytest.mark.parametrize("name", PROTOCOLS)
def test_on_the_whole_data_the_rate_drops_at_half_and_nothing_is_mixed(name):
    whole = whole_data(named(name), 30)
    assert [whole.lr(epoch) for epoch in (0, 14, 15, 29)] == [0.01, 0.01, 0.001, 0.001]
    assert (whole.epochs, whole.cutmix) == (30, 0)
    assert whole.operations == named(name).operations
