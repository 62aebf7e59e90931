import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from idm_ray.algorithm.augment import OPERATIONS, draw_siamese
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.algorithm.spans import PREFIX, Part
from idm_ray.algorithm.steps import train_step
from idm_ray.bench.published import (
    ConvNet,
    Published,
    image_optimizer,
    match_classes,
    network_optimizer,
    train_network,
)
from tests.algorithm.making import class_group, convnet, flat_network, flat_weights, normal
from tests.bench.making import TINY, offsets_of, plan_of

SHAPE, CLASSES, IPC = TINY.image_shape, TINY.num_classes, 2
ACCURACY = 0.6


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network_of(seed):
    """A published network whose norms are not the identity."""
    network = ConvNet(SHAPE, CLASSES, depth=2)
    weights = flat_weights(convnet(SHAPE, CLASSES, seed=seed))
    nn.utils.vector_to_parameters(weights, network.parameters())
    return network


class InDouble:
    """A published network in float64, as a class group uses networks."""

    def __init__(self):
        self.network = network_of(0).double()
        self.features, self.head = self.network.features, self.network.head
        self.parts = Numerics().parts

    def load(self, weights):
        nn.utils.vector_to_parameters(weights.double(), self.network.parameters())

    def freeze(self):
        return self


def real_batch(iteration, label):
    return normal(5, *SHAPE, seed=100 * iteration + label) + label


def start():
    return normal(CLASSES, IPC, *SHAPE, seed=77)


def published_points(config, iterations):
    """Images of each class when its gradient was taken, (T, C, ipc, ...), and those at the end."""
    images = start().flatten(0, 1).requires_grad_()
    optimizer = image_optimizer(images, config)
    points = torch.empty(iterations, *start().shape, dtype=torch.float64)
    for t in range(iterations):

        def batch(label, t=t):
            points[t, label] = images.detach().unflatten(0, (CLASSES, IPC))[label]
            return real_batch(t, label)

        def draw(label, t=t):
            return draw_siamese(OPERATIONS, [generator(config.condense.seed, "augment", t, label)])

        network = network_of(t).double()
        match_classes(
            images, optimizer, network, config, accuracy=ACCURACY, real_batch=batch, draw=draw
        )
    return points, images.detach().unflatten(0, (CLASSES, IPC))


def our_group(config):
    return class_group(
        config.condense,
        range(CLASSES),
        num_classes=CLASSES,
        operations=OPERATIONS,
        network=InDouble(),
        real_batches=lambda t, c: (real_batch(t, c), torch.full((5,), 0.2, dtype=torch.float64)),
        start=start(),
    )


def snapshot(iteration):
    weights = flat_weights(network_of(iteration)).numpy()
    return (Snapshot(model=iteration, weights=weights, accuracy=ACCURACY, age=0),)


@pytest.mark.parametrize("partition", [1, 2])
@pytest.mark.parametrize("lambda_reg", [0.0, 0.5])
def test_a_published_iteration_moves_the_images_as_ours_does(partition, lambda_reg):
    options = {"momentum_img": 0.0, "partition": partition, "lambda_reg": lambda_reg}
    config = plan_of(TINY, **options).config
    _, images = published_points(config, 1)
    group = our_group(config)
    group.run(0, [snapshot(0)])
    assert (images - start()).abs().amax((1, 2, 3, 4)).min() > 1e-4
    torch.testing.assert_close(images, group.images, rtol=1e-9, atol=1e-11)


def test_with_momentum_each_class_is_stepped_as_ours_is_from_iteration_to_iteration():
    config = plan_of(TINY, momentum_img=0.5, seed=4).config
    points, _ = published_points(config, 4)
    group = our_group(config)
    for t in range(4):
        torch.testing.assert_close(points[t], group.images, rtol=1e-8, atol=1e-10)
        group.run(t, [snapshot(t)])


def test_the_networks_compute_the_same():
    published, ours = network_of(3), convnet(SHAPE, CLASSES, seed=3)
    images = normal(6, *SHAPE).float()
    torch.testing.assert_close(published(images), ours(images))
    torch.testing.assert_close(published.features(images), ours.features(images))


def test_training_steps_are_ours():
    config = plan_of(TINY).config
    published, ours = network_of(0), flat_network(convnet(SHAPE, CLASSES, seed=0))
    labels = torch.arange(8) % CLASSES
    batches = [(normal(8, *SHAPE, seed=s).float(), labels) for s in range(3)]
    correct = train_network(published, network_optimizer(published, config), batches)
    velocity = torch.zeros_like(ours.weights)
    counts = [train_step(ours, *batch, velocity, lr=config.queue.lr_net)[1] for batch in batches]
    before = flat_weights(network_of(0))
    assert (ours.weights - before).abs().max() > 1e-3
    torch.testing.assert_close(flat_weights(published), ours.weights, rtol=1e-4, atol=1e-6)
    assert correct == sum(int(count[0]) for count in counts)


def make_published(**options):
    plan = plan_of(TINY, **options)
    return Published(
        plan.config,
        normal(CLASSES * TINY.images_per_class, *SHAPE).float(),
        offsets_of(TINY),
        start=normal(CLASSES * IPC, *SHAPE, seed=1).float(),
        operations=("flip", "crop"),
    )


def test_an_iteration_marks_the_same_parts_as_ours_side_by_side():
    published = make_published()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        published.match(0)
        published.train()
    marked = (e for e in profiler.events() if e.name.startswith(PREFIX))
    spans = sorted(marked, key=lambda event: event.time_range.start)
    assert {e.name.removeprefix(PREFIX) for e in spans} == set(get_args(Part))
    for before, after in itertools.pairwise(spans):
        assert before.time_range.end <= after.time_range.start


@pytest.mark.parametrize(("interval", "trained"), [(1, [16, 16, 16]), (2, [16, 0, 16])])
def test_networks_are_trained_at_their_interval(interval, trained, monkeypatch):
    published = make_published(train_interval=interval, push_interval=2, queue_size=3)
    steps = []
    monkeypatch.setattr(
        "idm_ray.bench.published.train_network",
        lambda network, optimizer, batches: steps.extend(len(labels) for _, labels in batches) or 0,
    )
    seen = []
    for iteration in range(3):
        published.match(iteration)
        published.train()
        seen.append(sum(steps))
        steps.clear()
    assert seen == [2 * t for t in trained]


def test_training_batches_hold_different_images_with_their_labels(monkeypatch):
    published = make_published(batch_train=100)
    batches = []
    monkeypatch.setattr(
        "idm_ray.bench.published.train_network",
        lambda network, optimizer, given: batches.extend(given) or 0,
    )
    published.match(0)
    published.train()
    images = normal(CLASSES * TINY.images_per_class, *SHAPE).float()
    for got, labels in batches:
        rows = [int((images == one).all(dim=(1, 2, 3)).nonzero()) for one in got]
        assert sorted(rows) == list(range(len(images)))
        assert (np.array(rows) // TINY.images_per_class == labels.numpy()).all()
    assert len(batches) == 4
