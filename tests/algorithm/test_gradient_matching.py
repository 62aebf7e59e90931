import numpy as np
import pytest
import torch
from torch import nn

from idm_ray.algorithm.augment import OPERATIONS, draw_siamese
from idm_ray.algorithm.gradient_matching import GradientMatching
from idm_ray.algorithm.matcher import Classes
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.networks import init_parameters
from idm_ray.algorithm.numerics import FlatNetwork, Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.building import build_network
from idm_ray.config import CondenseConfig
from idm_ray.errors import NonFiniteLossError
from tests import reference
from tests.algorithm.making import class_group, convnet, flat_network, flat_weights, normal

CLASSES, IPC, REAL = 4, 2, 6
SHAPE = (3, 8, 8)
WIDTH, NUM_FEATURES, NUM_WEIGHTS = 6, 24, 622


class DoubleNetwork:
    """Stands in for a FlatNetwork: narrow, and in float64, so that nothing is lost to rounding."""

    def __init__(self, images_per_pass=1024):
        blocks = [self._block(SHAPE[0]), self._block(WIDTH), nn.Flatten()]
        head = nn.utils.skip_init(nn.Linear, NUM_FEATURES, CLASSES)
        self.logits = self.plain_logits = nn.Sequential(*blocks, head).double()
        self.parts = Numerics(images_per_pass=images_per_pass).parts

    def load(self, weights):
        with torch.no_grad():
            nn.utils.vector_to_parameters(weights.double(), self.logits.parameters())

    def gradients(self, loss, *, differentiable=False):
        parameters = list(self.logits.parameters())
        return torch.autograd.grad(loss, parameters, create_graph=differentiable)

    def _block(self, channels):
        convolution = nn.utils.skip_init(nn.Conv2d, channels, WIDTH, 3, padding=1)
        return nn.Sequential(convolution, nn.GroupNorm(WIDTH, WIDTH), nn.ReLU(), nn.AvgPool2d(2))


def cut(weights):
    narrow = len(weights) == NUM_WEIGHTS
    return reference.convnet_parts(
        weights,
        channels=SHAPE[0],
        depth=2,
        width=WIDTH if narrow else 128,
        num_features=NUM_FEATURES if narrow else 512,
        num_classes=CLASSES,
    )


def snapshot(model):
    weights = 0.3 * normal(NUM_WEIGHTS, seed=model).float().numpy()
    return Snapshot(model=model, weights=weights, accuracy=0.0, age=0)


def sequence(iterations, num_matched=1):
    return [tuple(snapshot(10 * t + m) for m in range(num_matched)) for t in range(iterations)]


def real_batch(step, c):
    """Images of a class differ from those of others in their mean."""
    images = normal(REAL, *SHAPE, seed=1000 * step + c) + c
    return images, torch.full((REAL,), 1 / REAL, dtype=torch.float64)


def start():
    return normal(CLASSES, IPC, *SHAPE, seed=77)


def make_config(**options):
    return CondenseConfig(**({"ipc": IPC, "seed": 5, "lr_img": 2.0, "lambda_reg": 0.0} | options))


def make_group(config, classes=range(CLASSES), *, operations=OPERATIONS, first=None, **more):
    classes = list(classes)
    parts = {"network": DoubleNetwork(), "real_batches": real_batch} | more
    return class_group(
        config,
        classes,
        num_classes=CLASSES,
        operations=operations,
        matcher=GradientMatching,
        start=start()[classes] if first is None else first,
        **parts,
    )


def slow_distance(images, label, step, weights, *, operations, seed=5):
    """Of one class, by the reference."""
    real = real_batch(step, label)[0]
    if operations:
        draw = draw_siamese(operations, [generator(seed, "augment", step, label)])
        how = draw.operations[0], draw.uniforms[0]
        images, real = (reference.augment_torch(x, *how) for x in (images, real))
    return reference.gradient_distance_torch(images, real, label, cut, weights)


def slow_run(config, snapshots, operations):
    """The images before each step, by torch's SGD, and the distances of each class."""
    images = nn.Parameter(start())
    optimizer = torch.optim.SGD([images], lr=config.lr_img, momentum=config.momentum_img)
    points, losses = [], []
    for t, matched in enumerate(snapshots):
        points.append(images.detach().clone())
        total = 0.0
        losses.append(np.zeros(CLASSES))
        for network in matched:
            weights = torch.from_numpy(network.weights).double()
            for c in range(CLASSES):
                found = slow_distance(images[c], c, t, weights, operations=operations)
                losses[-1][c] += found.item() / len(matched)
                total = total + found / len(matched)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return points, np.array(losses)


@pytest.mark.parametrize("operations", [OPERATIONS, ()], ids=["augmented", "as they are"])
@pytest.mark.parametrize("num_matched", [1, 2])
def test_iterations_equal_the_slow_reference(num_matched, operations):
    config = make_config(num_matched_models=num_matched)
    snapshots = sequence(4, num_matched)
    points, losses = slow_run(config, snapshots, operations)
    group = make_group(config, operations=operations)
    for t in range(4):
        np.testing.assert_allclose(group.images, points[t], rtol=1e-7, atol=1e-9)
        report = group.run(t, snapshots[t : t + 1])
        np.testing.assert_allclose(report.matching, losses[t : t + 1], rtol=1e-8)
        assert (report.regularization == 0).all()
    assert ((points[-1] - points[0]).abs().amax((1, 2, 3, 4)) > 0.02).all()


@pytest.mark.parametrize("operation", [*OPERATIONS, None])
def test_the_gradient_of_the_images_is_that_of_finite_differences(operation):
    operations = (operation,) if operation else ()
    classes = Classes(
        labels=(2,),
        config=make_config(),
        operations=operations,
        network=DoubleNetwork(),
        real_batches=real_batch,
    )
    images, weights = start()[2], torch.from_numpy(snapshot(3).weights).double()
    found, _ = GradientMatching(classes).gradient(1, images.unsqueeze(0), [snapshot(3)])
    for seed in range(3):
        towards, tiny = normal(*images.shape, seed=seed), 1e-6
        up, down = (
            slow_distance(images + side * towards, 2, 1, weights, operations=operations).item()
            for side in (tiny, -tiny)
        )
        slope = (found[0] * towards).sum().item()
        assert slope == pytest.approx((up - down) / (2 * tiny), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("operations", [OPERATIONS, ()], ids=["augmented", "as they are"])
def test_however_classes_are_grouped_the_images_are_the_same_bit_for_bit(operations):
    config = make_config()
    together = make_group(config, operations=operations)
    report = together.run(0, sequence(3))
    for classes in ([0], [2, 3], [3, 2, 1, 0]):
        group = make_group(config, classes, operations=operations)
        own = group.run(0, sequence(3))
        assert group.images.equal(together.images[classes])
        assert (own.matching == report.matching[:, classes]).all()


def test_real_images_of_weight_zero_fill_a_batch_up_without_effect():
    def filled_up(step, c):
        images, weights = real_batch(step, c)
        return torch.cat([images, 9 * images[:3]]), torch.cat([weights, torch.zeros(3).double()])

    small, large = make_group(make_config()), make_group(make_config(), real_batches=filled_up)
    for group in (small, large):
        group.run(0, sequence(2))
    torch.testing.assert_close(large.images, small.images)


def test_real_images_may_go_through_in_parts():
    whole, parts = (make_group(make_config(), network=DoubleNetwork(n)) for n in (1024, 4))
    for group in (whole, parts):
        group.run(0, sequence(2))
    torch.testing.assert_close(parts.images, whole.images)


def test_a_step_goes_downhill():
    config = make_config(lr_img=1e-3, momentum_img=0.0)
    group = make_group(config)
    before = group.run(0, sequence(1))
    again = make_group(config, first=group.images)
    after = again.run(0, sequence(1))
    assert after.matching.sum() < before.matching.sum()


@pytest.mark.parametrize("compile_", [False, True])
def test_the_network_of_a_run_comes_close_to_the_reference_and_its_weights_stay(compile_):
    numerics = Numerics(compile=compile_)
    wide = convnet(SHAPE, CLASSES, seed=3)
    weights = flat_weights(wide)
    network = flat_network(wide, numerics)

    def real(step, c):
        images, shares = real_batch(step, c)
        return images.float(), shares.float()

    matched = Snapshot(model=3, weights=weights.numpy(), accuracy=0.0, age=0)
    config = make_config(lr_img=1.0)
    points, losses = slow_run(config, [(matched,), (matched,)], ())
    group = make_group(
        config, operations=(), network=network, real_batches=real, first=start().float()
    )
    report = group.run(0, [(matched,)])
    assert group.images.dtype == torch.float32
    np.testing.assert_allclose(report.matching, losses[:1], rtol=1e-4)
    step = (points[1] - points[0]).abs().max().item()
    np.testing.assert_allclose(group.images, points[1], rtol=0, atol=2e-3 * step)
    assert network.weights.equal(weights)


def test_a_loss_that_is_not_finite_names_class_model_and_iteration():
    def broken(step, c):
        images, weights = real_batch(step, c)
        return (images * float("nan") if (step, c) == (1, 2) else images), weights

    group = make_group(make_config(), [1, 2, 3], real_batches=broken)
    with pytest.raises(NonFiniteLossError, match=r"class 2 .* iteration 1, .* 10; lower lr_img, "):
        group.run(0, sequence(3))


@pytest.mark.parametrize(
    "name",
    [
        *("convnet-3", "convnet-2-w8-layer-max-leakyrelu", "convnet-2-w8-nonorm-nopool-sigmoid"),
        *("alexnet", "vgg11", "resnet18", "resnet18-ap"),
    ],
)
def test_every_network_that_can_be_matched_can_be_matched_by_gradients(name):
    shape = (3, 32, 32)
    network = build_network(name, shape, 2).to_empty(device="cpu")
    init_parameters(network, generator(0, "a network"))
    weights = flat_weights(network).numpy()
    classes = Classes(
        labels=(1,),
        config=CondenseConfig(lambda_reg=0.0),
        operations=(),
        network=FlatNetwork(network, Numerics()),
        real_batches=lambda step, c: (normal(2, *shape).float(), torch.full((2,), 0.5)),
    )
    images = normal(1, 1, *shape, seed=1).float()
    matched = Snapshot(model=0, weights=weights, accuracy=0.0, age=0)
    gradient, losses = GradientMatching(classes).gradient(0, images, [matched])
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert losses[0, 0] > 0
