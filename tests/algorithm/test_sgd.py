import numpy as np
import pytest
import torch

from idm_ray.algorithm.sgd import per_class_step_, sgd_step_
from tests import reference
from tests.algorithm.making import normal


@pytest.mark.parametrize(
    ("lr", "momentum", "weight_decay"), [(0.01, 0.9, 0.0005), (0.2, 0.5, 0.0), (0.1, 0.0, 0.01)]
)
def test_twenty_steps_equal_those_of_torch(lr, momentum, weight_decay):
    values, velocity = normal(11), torch.zeros(11, dtype=torch.float64)
    parameter = torch.nn.Parameter(values.clone())
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum, weight_decay=weight_decay)
    for step in range(20):
        gradient = normal(11, seed=step)
        sgd_step_(values, gradient, velocity, lr=lr, momentum=momentum, weight_decay=weight_decay)
        parameter.grad = gradient
        optimizer.step()
        torch.testing.assert_close(values, parameter.data, rtol=1e-13, atol=1e-13)


def test_the_steps_equal_the_reference():
    values, velocity = normal(11), torch.zeros(11, dtype=torch.float64)
    gradients = [normal(11, seed=step).numpy() for step in range(5)]
    settings = {"lr": 0.3, "momentum": 0.7, "weight_decay": 0.02}
    path = reference.sgd(values.numpy().copy(), gradients, **settings)
    for gradient, expected in zip(gradients, path, strict=True):
        sgd_step_(values, torch.from_numpy(gradient), velocity, **settings)
        np.testing.assert_allclose(values, expected, rtol=1e-13)


def test_a_step_leaves_the_gradient_alone():
    gradient = normal(11)
    before = gradient.clone()
    sgd_step_(normal(11), gradient, torch.zeros_like(gradient), lr=0.1, momentum=0.5)
    per_class_step_(
        normal(11), gradient, torch.zeros_like(gradient), lr=0.1, momentum=0.5, num_classes=3
    )
    assert gradient.equal(before)


# Any loss will do whose gradient depends on the class and on where it is taken.
def gradient_of(c, images):
    return np.tanh(images * (c + 1)) + 0.1 * images - 0.2 * c


@pytest.mark.parametrize("num_classes", [1, 2, 10])
@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.0])
def test_the_per_class_step_takes_every_class_s_gradient_where_the_published_steps_do(
    num_classes, momentum
):
    # A class's images are at the same place whenever its own gradient is taken. Between that, the
    # published loop holds classes that have coasted through different shares of an iteration.
    start = normal(num_classes, 2, 3).numpy()
    settings = {"lr": 0.05, "momentum": momentum}
    points = reference.per_class_sgd(start, gradient_of, iterations=8, **settings)
    images = torch.from_numpy(start.copy())
    velocity = torch.zeros_like(images)
    for expected in points:
        np.testing.assert_allclose(images, expected, rtol=1e-11, atol=1e-12)
        gradient = np.stack([gradient_of(c, x) for c, x in enumerate(images.numpy())])
        per_class_step_(
            images, torch.from_numpy(gradient), velocity, num_classes=num_classes, **settings
        )


def test_a_group_of_classes_steps_as_it_does_among_all_classes():
    images, gradient = normal(6, 4), normal(6, 4, seed=1)
    velocity = normal(6, 4, seed=2)
    parts = [(images[s].clone(), gradient[s], velocity[s].clone()) for s in (slice(2), slice(2, 6))]
    per_class_step_(images, gradient, velocity, lr=0.2, momentum=0.5, num_classes=6)
    for part in parts:
        per_class_step_(*part, lr=0.2, momentum=0.5, num_classes=6)
    assert images.equal(torch.cat([part[0] for part in parts]))
    assert velocity.equal(torch.cat([part[2] for part in parts]))


@pytest.mark.parametrize("num_classes", [1, 2, 10])
def test_the_per_class_step_is_plain_sgd_with_lr_0_4_to_a_factor(num_classes):
    images, gradient = normal(5), normal(5, seed=1)
    velocity = torch.zeros_like(images)
    plain = images - 0.4 * (1 - 0.5**num_classes) * gradient
    per_class_step_(images, gradient, velocity, lr=0.2, momentum=0.5, num_classes=num_classes)
    torch.testing.assert_close(images, plain)
    # The rest of the way to lr 0.4 is what the velocity still holds.
    torch.testing.assert_close(
        images - 0.2 / (1 - 0.5) * 0.5 * velocity, plain - (0.4 * 0.5**num_classes * gradient)
    )
