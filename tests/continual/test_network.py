"""A network is tested on all classes so far, and outputs of the others compete."""

import dataclasses

import numpy as np
import pytest
import torch

from idm_ray.continual.course import NetworkJob
from idm_ray.continual.memories import Memories
from idm_ray.continual.network import train_and_test
from idm_ray.examining import train_network
from idm_ray.plan import EvaluationJob
from idm_ray.real_images import RealImages
from tests.data.making import images_of
from tests.making_runs import plan_of

STEPS = ((7, 2), (0, 9, 5))


@pytest.fixture(scope="module")
def plan_and_data():
    return plan_of(eval_epochs=1, lr_net=1e-6)


@pytest.fixture(scope="module")
def memories(plan_and_data):
    plan, _ = plan_and_data
    with RealImages(plan) as real:
        images = [real.random(label) for step in STEPS for label in step]
    return Memories(
        images=torch.cat(images).numpy(),
        labels=np.array([label for step in STEPS for label in step]),
        ends=(2, 5),
        partition=1,
    )


def job(step, *, order=3, repeat=0):
    return NetworkJob(method="dm", order=order, step=step, repeat=repeat)


def logits_of(plan, memories, step, seen):
    """What the network of a step says of each test image of these classes, and their labels."""
    plan, dataset = plan
    plan = dataclasses.replace(plan, config=plan.config.replace(seed=3))
    how = EvaluationJob(subject="condensed", repeat=0, iteration=plan.config.condense.iterations)
    forward = train_network(plan, how, memories.union(step, "cpu"))
    rows = [row for row, label in enumerate(dataset.test.labels) if label in seen]
    pixels = torch.from_numpy(images_of(dataset.test)[rows]).float() / 255
    mean, std = (torch.tensor(values) for values in (dataset.info.mean, dataset.info.std))
    with torch.no_grad():
        return forward((pixels - mean) / std), dataset.test.labels[rows]


@pytest.mark.parametrize("step", [1, 2])
def test_accuracy_is_that_of_unmasked_outputs_on_the_classes_so_far(plan_and_data, memories, step):
    seen = {label for labels in STEPS[:step] for label in labels}
    logits, labels = logits_of(plan_and_data, memories, step, seen)
    assert logits.shape[1] == 10
    correct = sum(
        int(max(range(10), key=lambda c, row=row: float(row[c])) == label)
        for row, label in zip(logits, labels, strict=True)
    )
    masked = sum(
        int(max(seen, key=lambda c, row=row: float(row[c])) == label)
        for row, label in zip(logits, labels, strict=True)
    )
    # A network that has hardly learned takes classes for others that have not come: that counts.
    assert correct < masked
    found = train_and_test(plan_and_data[0], job(step), memories)
    assert found.accuracy == correct / len(labels)
    assert found.seconds > 0


def test_networks_differ_by_order_and_repeat_but_not_by_method(plan_and_data, memories):
    plan = plan_and_data[0]

    def accuracy(**which):
        return train_and_test(plan, dataclasses.replace(job(2), **which), memories).accuracy

    first = accuracy()
    assert first == accuracy() == accuracy(method="idm")
    assert len({first, accuracy(repeat=1), accuracy(order=4), accuracy(order=4, repeat=1)}) > 1
