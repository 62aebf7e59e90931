import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idm_ray.algorithm.augment import OPERATIONS, draw_per_image
from idm_ray.algorithm.evaluate import TrainingImages, accuracy, fit
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.protocols import Protocol
from idm_ray.algorithm.randomness import generator
from tests import reference
from tests.algorithm.making import normal

COUNT, CLASSES = 11, 3
KEY = (4, "evaluate", 1)


@pytest.fixture
def pictures():
    return normal(COUNT, 2, 6, 6, seed=1).float()


@pytest.fixture
def labels():
    return torch.arange(COUNT) % CLASSES


def linear_network():
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES))
    with torch.no_grad():
        network[1].weight.copy_(0.1 * normal(CLASSES, 72, seed=2))
        network[1].bias.copy_(0.1 * normal(CLASSES, seed=3))
    return network


def protocol(**changes):
    settings = {
        "epochs": 6,
        "drop_epoch": 4,
        "lr_net": 0.05,
        "batch_train": 4,
        "operations": OPERATIONS,
    }
    return Protocol(**(settings | changes))


def trained(pictures, labels, settings, key=KEY):
    """A linear network fitted by the implementation, and the batches it asked for."""
    asked = []

    def take(rows):
        asked.append(rows.tolist())
        return pictures[rows], labels[rows]

    network = linear_network()
    fit(network, TrainingImages(count=COUNT, take=take), settings, Numerics(), key)
    return network, asked


def trained_literally(pictures, labels, settings, key=KEY):
    """The same by a loop that spells everything out."""
    network = linear_network()
    weights = list(network.parameters())
    velocities = [torch.zeros_like(w) for w in weights]
    for epoch in range(settings.epochs):
        lr = settings.lr_net if epoch < settings.drop_epoch else settings.lr_net / 10
        if epoch == settings.drop_epoch:
            velocities = [torch.zeros_like(w) for w in weights]
        draws = generator(*key, epoch)
        order = torch.randperm(COUNT, generator=draws).tolist()
        for rows in reference.batches_of_an_epoch(order, settings.batch_train):
            batch = pictures[rows]
            if settings.operations:
                params = draw_per_image(settings.operations, len(rows), draws)
                pairs = zip(batch, params.operations, params.uniforms, strict=True)
                batch = torch.cat([reference.augment_torch(x[None], o, u) for x, o, u in pairs])
            gradients = torch.autograd.grad(F.cross_entropy(network(batch), labels[rows]), weights)
            with torch.no_grad():
                for w, v, g in zip(weights, velocities, gradients, strict=True):
                    v.mul_(0.9).add_(g + 0.0005 * w)
                    w.sub_(lr * v)
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"operations": ()},
        {"drop_epoch": 0},
        {"drop_epoch": 100},
        {"batch_train": 1},
        {"batch_train": 256},
        {"epochs": 40, "drop_epoch": 20, "operations": ("crop",)},
    ],
)
def test_fitting_equals_the_literal_loop(pictures, labels, changes):
    settings = protocol(**changes)
    network, _ = trained(pictures, labels, settings)
    expected = trained_literally(pictures, labels, settings)
    for ours, theirs in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_drop_is_to_a_tenth_and_forgets_the_momentum(pictures, labels):
    # One image, one step an epoch: the first step after the drop is the plain gradient's.
    picture, label = pictures[:1].double(), labels[:1]
    images = TrainingImages(count=1, take=lambda _: (picture, label))
    before, after = linear_network().double(), linear_network().double()
    for network, epochs in ((before, 3), (after, 4)):
        settings = protocol(epochs=epochs, drop_epoch=3, operations=())
        fit(network, images, settings, Numerics(), KEY)
    weights = list(before.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(before(picture), label), weights)
    for old, new, gradient in zip(weights, after.parameters(), gradients, strict=True):
        step = 0.005 * (gradient + 0.0005 * old)
        torch.testing.assert_close(old - new, step, rtol=1e-3, atol=1e-9)


def test_every_epoch_sees_every_image_once_in_a_new_order_and_keeps_the_ragged_batch(
    pictures, labels
):
    _, asked = trained(pictures, labels, protocol())
    assert [len(rows) for rows in asked] == [4, 4, 3] * 6
    epochs = [[*asked[i], *asked[i + 1], *asked[i + 2]] for i in range(0, 18, 3)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 6


def test_the_key_alone_decides_a_training(pictures, labels):
    first, again, other = (
        trained(pictures, labels, protocol(), key)[0][1].weight for key in (KEY, KEY, (4, "e", 2))
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_fitting_returns_the_network_in_evaluation_mode(pictures, labels):
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, CLASSES), nn.BatchNorm1d(CLASSES))
    modes = []

    def take(rows):
        modes.append(network.training)
        return pictures[rows], labels[rows]

    network.eval()
    settings = protocol(epochs=2, batch_train=6)
    forward = fit(network, TrainingImages(count=COUNT, take=take), settings, Numerics(), KEY)
    assert modes == [True] * 4
    assert not network.training
    statistics = copy.deepcopy(network[2].state_dict())
    torch.testing.assert_close(forward(pictures), network(pictures))
    assert statistics["num_batches_tracked"] == network[2].num_batches_tracked == 4


def test_fitting_learns(pictures, labels):
    settings = protocol(epochs=60, drop_epoch=50, operations=())
    network, _ = trained(pictures, labels, settings)
    assert accuracy(network, [(pictures, labels)]) == 1.0


def test_accuracy_counts_images_over_all_batches():
    # Logits are the images; batches of different sizes weigh by their images.
    batches = [
        (torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 1])),
        (torch.eye(3)[[0]], torch.tensor([1])),
    ]
    assert accuracy(lambda images: images, iter(batches)) == 3 / 5


def test_accuracy_needs_no_gradients():
    def forward(images):
        assert not torch.is_grad_enabled()
        return images

    assert accuracy(forward, [(torch.eye(3), torch.arange(3))]) == 1.0
