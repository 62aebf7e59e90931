import numpy as np
import pytest
import torch
from torch.nn import functional as F

from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.pretraining import METER_STEPS, pretrain
from idm_ray.algorithm.randomness import generator
from idm_ray.building import build_network
from idm_ray.errors import NonFiniteLossError
from tests.algorithm.making import flat_weights

SEED = 3


def batches(member, step):
    """Two classes that differ in brightness, so that there is something to learn."""
    draws = generator("batch", member, step)
    labels = torch.randint(2, (6,), generator=draws)
    images = torch.randn(6, 1, 8, 8, generator=draws) + labels.reshape(-1, 1, 1, 1)
    return images * torch.linspace(-1, 1, 8), labels


def network():
    return build_network("convnet-1", (1, 8, 8), 2)


def pretrained(member=1, steps=6, lr=0.02, seed=SEED):
    (found,) = looks(steps, member=member, lr=lr, seed=seed)
    return found


def looks(*steps, member=1, lr=0.02, seed=SEED):
    """The network after each of so many steps."""
    made = pretrain(network(), Numerics(), batches, member=member, looks=steps, lr=lr, seed=seed)
    return list(made)


def trained_by_hand(member, steps, lr):
    """Weights, and for every image whether it was classified correctly before its step."""
    plain = network().to_empty(device="cpu")
    init_parameters(plain, generator(SEED, "pretrain", member))
    optimizer = torch.optim.SGD(plain.parameters(), lr=lr, momentum=0.9, weight_decay=0.0005)
    hits = []
    for step in range(steps):
        images, labels = batches(member, step)
        logits = plain(images)
        hits += (logits.argmax(1) == labels).tolist()
        optimizer.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
    return flat_weights(plain).numpy(), hits


@pytest.mark.parametrize("steps", [1, 6, METER_STEPS + 3])
def test_a_network_is_trained_as_by_hand_and_its_last_steps_are_counted(steps):
    found = pretrained(member=2, steps=steps)
    weights, hits = trained_by_hand(2, steps, 0.02)
    np.testing.assert_allclose(found.weights, weights, rtol=0, atol=1e-4)
    last = hits[-6 * METER_STEPS :]
    assert (found.images, found.correct) == (len(last), sum(last))
    assert found.accuracy == sum(last) / len(last)


def test_a_network_follows_from_its_number_and_the_seed():
    first, again = pretrained(), pretrained()
    assert first.weights.dtype == np.float32
    assert first.weights.tobytes() == again.weights.tobytes()
    for other in (pretrained(member=0), pretrained(seed=4), pretrained(steps=7)):
        assert not np.array_equal(first.weights, other.weights)


def test_looking_at_a_network_on_the_way_changes_nothing():
    on_the_way = looks(2, 5, METER_STEPS + 2)
    alone = [pretrained(steps=steps) for steps in (2, 5, METER_STEPS + 2)]
    for one, other in zip(on_the_way, alone, strict=True):
        assert one.weights.tobytes() == other.weights.tobytes()
        assert (one.images, one.correct) == (other.images, other.correct)


def test_training_learns():
    assert pretrained(steps=2 * METER_STEPS).accuracy > 0.9


def test_a_network_that_diverges_is_refused_as_soon_as_it_is_noticed():
    steps = []

    def watched(member, step):
        steps.append(step)
        return batches(member, step)

    with pytest.raises(NonFiniteLossError, match=r"^the weights of pretrained network 1 are not f"):
        looked = (10 * METER_STEPS,)
        list(pretrain(network(), Numerics(), watched, member=1, looks=looked, lr=1e30, seed=SEED))
    assert len(steps) == METER_STEPS
