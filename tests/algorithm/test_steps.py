import numpy as np
import pytest
import torch
from torch.nn import functional as F

from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.steps import TrainMetrics, train_step
from tests import reference
from tests.algorithm.making import convnet, flat_network, flat_weights, normal


def batches(count):
    draws = torch.tensor([[0, 1, 2, 3, 1, 2]]).repeat(count, 1)
    return [(normal(6, 3, 8, 8, seed=i).float(), draws[i].roll(i)) for i in range(count)]


def test_training_steps_come_close_to_torch_s_sgd_on_the_module():
    plain, network = convnet(), flat_network(convnet())
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    velocity = torch.zeros_like(network.weights)
    for images, labels in batches(4):
        optimizer.zero_grad()
        F.cross_entropy(plain(images), labels).backward()
        optimizer.step()
        train_step(network, images, labels, velocity, lr=0.01)
    torch.testing.assert_close(network.weights, flat_weights(plain), rtol=0, atol=1e-4)


def test_training_steps_have_the_paper_s_momentum_and_weight_decay():
    network = flat_network(convnet())
    velocity = torch.zeros_like(network.weights)
    gradients, weights = [], [network.weights.clone()]
    for images, labels in batches(4):
        gradients.append(network.gradient(F.cross_entropy(network.logits(images), labels)).numpy())
        train_step(network, images, labels, velocity, lr=0.05)
        weights.append(network.weights.clone())
    expected = reference.sgd(
        weights[0].double().numpy(), gradients, lr=0.05, momentum=0.9, weight_decay=0.0005
    )
    for ours, theirs in zip(weights[1:], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_batch_in_parts_makes_the_step_of_the_whole_batch():
    images, labels = batches(1)[0]
    whole, parts = flat_network(convnet()), flat_network(convnet(), Numerics(images_per_pass=4))
    assert [len(part) for part in parts.parts(images)] == [3, 3]
    metrics = []
    for network in (whole, parts):
        velocity = torch.zeros_like(network.weights)
        metrics.append(TrainMetrics.total([train_step(network, images, labels, velocity, lr=0.1)]))
    torch.testing.assert_close(whole.weights, parts.weights, rtol=1e-5, atol=1e-6)
    assert metrics[0].correct == metrics[1].correct
    assert metrics[0].images == metrics[1].images == 6
    assert metrics[0].loss == pytest.approx(metrics[1].loss, rel=1e-6)


def test_metrics_count_predictions_and_loss_before_each_step():
    plain, network = convnet(), flat_network(convnet())
    velocity = torch.zeros_like(network.weights)
    steps = []
    images_seen, correct, loss = 0, 0, 0.0
    for images, labels in batches(3):
        torch.nn.utils.vector_to_parameters(network.weights.clone(), plain.parameters())
        logits = plain(images)
        images_seen += len(labels)
        correct += int((logits.argmax(1) == labels).sum())
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        steps.append(train_step(network, images, labels, velocity, lr=0.1))
    total = TrainMetrics.total(steps)
    assert (total.images, total.correct) == (images_seen, correct) == (18, correct)
    assert total.loss == pytest.approx(loss, rel=1e-4)
    assert 0 < correct < 18


def test_metrics_add_up():
    first = TrainMetrics(images=4, correct=1, loss=2.5)
    assert first + TrainMetrics() == first
    assert first + first == TrainMetrics(images=8, correct=2, loss=5.0)
