import numpy as np
import pytest
import torch
from torch import nn

from idm_ray.algorithm.augment import OPERATIONS, draw_siamese
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.numerics import Numerics
from idm_ray.algorithm.randomness import generator
from idm_ray.config import CondenseConfig
from idm_ray.errors import NonFiniteLossError
from idm_ray.pace import iterations_remembered
from tests import reference
from tests.algorithm.making import class_group, convnet, flat_network, flat_weights, normal

CLASSES = 4
SHAPE = (3, 8, 8)
IPC = 2
WIDTH, NUM_FEATURES, NUM_WEIGHTS = 6, 24, 622


class DoubleNetwork:
    """Stands in for a FlatNetwork: narrow, and in float64, so that nothing is lost to rounding."""

    def __init__(self):
        blocks = [self._block(SHAPE[0]), self._block(WIDTH), nn.Flatten()]
        self.features = nn.Sequential(*blocks).double()
        self.head = nn.utils.skip_init(nn.Linear, NUM_FEATURES, CLASSES).double()
        self._parameters = [*self.features.parameters(), *self.head.parameters()]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        self.parts = Numerics().parts

    def load(self, weights):
        nn.utils.vector_to_parameters(weights.double(), self._parameters)

    def freeze(self):
        return self

    def _block(self, channels):
        convolution = nn.utils.skip_init(nn.Conv2d, channels, WIDTH, 3, padding=1)
        return nn.Sequential(convolution, nn.GroupNorm(WIDTH, WIDTH), nn.ReLU(), nn.AvgPool2d(2))


def snapshot(model, accuracy=0.4):
    weights = 0.3 * normal(NUM_WEIGHTS, seed=model).float().numpy()
    return Snapshot(model=model, weights=weights, accuracy=accuracy, age=0)


def sequence(iterations, num_matched=1):
    """Other networks, of other accuracies, in every iteration."""
    return [
        tuple(snapshot(10 * t + m, accuracy=0.1 * t + 0.3 * m) for m in range(num_matched))
        for t in range(iterations)
    ]


def real_batch(iteration, c):
    """Images of a class differ from those of others in their mean."""
    images = normal(6, *SHAPE, seed=1000 * iteration + c) + c
    return images, torch.full((6,), 1 / 6, dtype=torch.float64)


def start():
    return normal(CLASSES, IPC, *SHAPE, seed=77)


def make_config(**options):
    """Gradients of the narrow network are small, so the steps are made large."""
    return CondenseConfig(**({"ipc": IPC, "seed": 5, "lr_img": 20.0} | options))


def make_group(
    config, classes=range(CLASSES), *, first=None, network=None, real=real_batch, **more
):
    classes = list(classes)
    return class_group(
        config,
        classes,
        num_classes=CLASSES,
        operations=OPERATIONS,
        network=network or DoubleNetwork(),
        real_batches=real,
        start=start()[classes] if first is None else first,
        **more,
    )


def slow_run(config, snapshots):
    """The whole method, one class at a time, by autograd and torch's SGD.

    Returns:
        images (T, C, ipc, ...) where each class's gradient was taken; losses (T, C, 2).
    """
    images = nn.Parameter(start())
    optimizer = torch.optim.SGD([images], lr=config.lr_img, momentum=config.momentum_img)
    points, losses = [], []
    for t, matched in enumerate(snapshots):
        points.append([])
        losses.append([])
        networks = [network_of(s) for s in matched]
        for c in range(CLASSES):
            draw = draw_siamese(OPERATIONS, [generator(config.seed, "augment", t, c)])
            points[-1].append(images[c].detach().clone())
            terms = reference.class_loss_torch(
                images[c],
                real_batch(t, c)[0],
                c,
                partition=config.partition,
                operation=draw.operations[0],
                uniforms=draw.uniforms[0],
                networks=networks,
                lambda_reg=config.lambda_reg,
            )
            losses[-1].append([term.item() for term in terms])
            sum(terms).backward()
            if config.image_step == "per_class":
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
        if config.image_step == "joint":
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return torch.stack([torch.stack(p) for p in points]), np.array(losses)


def network_of(matched):
    """(blocks, head, accuracy) of a snapshot of a network of depth 2, narrow or of full width."""
    narrow = len(matched.weights) == NUM_WEIGHTS
    blocks, head = reference.convnet_parts(
        torch.from_numpy(matched.weights).double(),
        channels=SHAPE[0],
        depth=2,
        width=WIDTH if narrow else 128,
        num_features=NUM_FEATURES if narrow else 512,
        num_classes=CLASSES,
    )
    return blocks, head, matched.accuracy


@pytest.mark.parametrize("image_step", ["joint", "per_class"])
@pytest.mark.parametrize(
    ("num_matched", "options"),
    [
        (1, {"partition": 2, "lambda_reg": 0.5}),
        (1, {"partition": 1, "lambda_reg": 0.0}),
        (2, {"partition": 2, "lambda_reg": 0.1}),
        (2, {"partition": 3, "lambda_reg": 3.0, "lr_img": 3.0, "momentum_img": 0.9}),
    ],
)
def test_iterations_equal_the_slow_reference(image_step, num_matched, options):
    config = make_config(image_step=image_step, num_matched_models=num_matched, **options)
    snapshots = sequence(4, num_matched)
    points, losses = slow_run(config, snapshots)
    group = make_group(config)
    for t in range(4):  # after 0, 1, 2 and 3 iterations
        np.testing.assert_allclose(group.images, points[t], rtol=1e-8, atol=1e-9)
        report = group.run(t, snapshots[t : t + 1])
        assert (report.classes, report.first_iteration) == ((0, 1, 2, 3), t)
        np.testing.assert_allclose(report.matching, losses[t : t + 1, :, 0], rtol=1e-8)
        np.testing.assert_allclose(report.regularization, losses[t : t + 1, :, 1], rtol=1e-8)
    moved = (points[-1] - points[0]).abs().amax((1, 2, 3, 4))
    assert (moved > 0.02).all()


def test_the_comparison_with_the_reference_meets_every_operation():
    keys = [(t, c) for t in range(4) for c in range(CLASSES)]
    draws = draw_siamese(OPERATIONS, [generator(5, "augment", t, c) for t, c in keys])
    assert set(draws.operations) == set(OPERATIONS)


def test_the_float32_network_comes_close_to_the_reference():
    def real(iteration, c):
        images, weights = real_batch(iteration, c)
        return images.float(), weights.float()

    wide = convnet(SHAPE, CLASSES, seed=3)
    matched = Snapshot(model=3, weights=flat_weights(wide).numpy(), accuracy=0.4, age=0)
    config = make_config(lr_img=0.2)
    points, losses = slow_run(config, [(matched,), (matched,)])
    network = flat_network(convnet(SHAPE, CLASSES)).freeze()
    group = make_group(config, first=start().float(), network=network, real=real)
    report = group.run(0, [(matched,)])
    assert group.images.dtype == torch.float32
    np.testing.assert_allclose(report.matching, losses[:1, :, 0], rtol=1e-4)
    np.testing.assert_allclose(report.regularization, losses[:1, :, 1], rtol=1e-4)
    step = (points[1] - points[0]).abs().max().item()
    np.testing.assert_allclose(group.images, points[1], rtol=0, atol=1e-3 * step)


def test_several_iterations_in_one_call_equal_single_calls():
    config = make_config()
    at_once, one_by_one = make_group(config), make_group(config)
    report = at_once.run(0, sequence(3))
    single = [one_by_one.run(t, [s]) for t, s in enumerate(sequence(3))]
    assert at_once.images.equal(one_by_one.images)
    assert report.matching.shape == report.regularization.shape == (3, CLASSES)
    assert report.matching.dtype == np.float64
    assert (report.matching == np.concatenate([r.matching for r in single])).all()


@pytest.mark.parametrize("image_step", ["joint", "per_class"])
def test_a_group_of_four_classes_equals_two_groups_of_two(image_step):
    config = make_config(image_step=image_step)
    together, parts = make_group(config), [make_group(config, c) for c in ([0, 1], [2, 3])]
    report = together.run(0, sequence(3))
    reports = [part.run(0, sequence(3)) for part in parts]
    torch.testing.assert_close(together.images, torch.cat([part.images for part in parts]))
    matching = np.concatenate([r.matching for r in reports], axis=1)
    np.testing.assert_allclose(report.matching, matching, rtol=1e-10)
    assert [r.classes for r in reports] == [(0, 1), (2, 3)]


def test_the_order_of_the_classes_in_a_group_does_not_matter():
    config = make_config()
    forwards, backwards = make_group(config), make_group(config, [3, 2, 1, 0])
    for group in (forwards, backwards):
        group.run(0, sequence(2))
    torch.testing.assert_close(forwards.images, backwards.images.flip(0))


@pytest.mark.parametrize("image_step", ["joint", "per_class"])
def test_a_restored_group_continues_with_the_same_bits(image_step):
    config = make_config(image_step=image_step)
    group, restored = make_group(config), make_group(config, first=torch.zeros_like(start()))
    group.run(0, sequence(2))
    state = group.state()
    group.run(2, sequence(2))
    restored.restore(state)
    restored.run(2, sequence(2))
    assert restored.images.equal(group.images)
    assert not np.array_equal(restored.images, state.images)


def test_a_state_that_was_taken_stays_what_it_was():
    group = make_group(make_config())
    group.run(0, sequence(1))
    state = group.state()
    images, velocity = state.images.copy(), state.velocity.copy()
    group.run(1, sequence(2))
    assert state.iteration == 1
    np.testing.assert_array_equal(state.images, images)
    np.testing.assert_array_equal(state.velocity, velocity)


def test_finished_iterations_are_passed_over():
    group, once = make_group(make_config()), make_group(make_config())
    expected = once.run(0, sequence(4))
    group.run(0, sequence(3))
    again = group.run(0, sequence(4))
    assert group.images.equal(once.images)
    assert again.first_iteration == 3
    np.testing.assert_array_equal(again.matching, expected.matching[3:])
    assert group.run(0, sequence(2)).matching.shape == (0, 4)
    assert group.iteration == 4


def test_a_restored_group_reports_once_more_what_is_remembered():
    group, restored = make_group(make_config()), make_group(make_config())
    expected = group.run(0, sequence(3))
    restored.restore(group.state())
    expected_last = group.run(3, sequence(2)[1:])
    report = restored.run(2, sequence(2))  # its first iteration is finished
    assert report.first_iteration == 0
    for name in ("matching", "regularization"):
        losses = np.concatenate([getattr(expected, name), getattr(expected_last, name)])
        np.testing.assert_array_equal(getattr(report, name), losses)
    assert restored.run(4, sequence(1)).first_iteration == 4


def test_no_more_losses_are_remembered_than_somebody_may_ask_for():
    iterations = 1000
    group = make_group(make_config(iterations=iterations))
    for t in range(iterations_remembered(iterations) + 3):
        group.run(t, sequence(1))
    assert group.state().losses.shape == (2, iterations_remembered(iterations), CLASSES)


def test_copies_are_kept_until_they_are_forgotten_and_outlive_a_restore():
    def group():
        return make_group(make_config(), copy_at=(1, 3))

    first, stepwise = group(), group()
    first.run(0, sequence(4))
    assert sorted(first.state().copies) == [1, 3]
    for t in range(4):
        stepwise.run(t, sequence(4)[t : t + 1])
        if t + 1 in (1, 3):
            np.testing.assert_array_equal(first.state().copies[t + 1], stepwise.images)
    restored = group()
    restored.restore(first.state())
    restored.forget(1)
    assert sorted(restored.state().copies) == [3]
    np.testing.assert_array_equal(restored.state().copies[3], first.state().copies[3])


def test_the_start_is_copied():
    first = start()
    group = make_group(make_config(), first=first)
    group.run(0, sequence(1))
    assert first.equal(start())
    assert not group.images.equal(first)


def test_real_images_of_weight_zero_fill_a_batch_up_without_effect():
    def filled_up(iteration, c):
        images, weights = real_batch(iteration, c)
        return torch.cat([images, 9 * images[:3]]), torch.cat([weights, torch.zeros(3).double()])

    small, large = make_group(make_config()), make_group(make_config(), real=filled_up)
    for group in (small, large):
        group.run(0, sequence(2))
    torch.testing.assert_close(large.images, small.images)


def test_each_network_weighs_by_its_own_accuracy_and_the_terms_are_averaged():
    config = make_config(num_matched_models=2)
    networks = [snapshot(1, accuracy=0.2), snapshot(2, accuracy=0.9)]
    both = make_group(config).run(0, [networks])
    alone = [make_group(config).run(0, [[network]]) for network in networks]
    for name in ("matching", "regularization"):
        mean = sum(getattr(report, name) for report in alone) / 2
        np.testing.assert_allclose(getattr(both, name), mean, rtol=1e-10)


def test_an_untrained_network_or_lambda_zero_leaves_the_matching_alone():
    untrained = make_group(make_config())
    report = untrained.run(0, [[snapshot(1, accuracy=0.0)]])
    assert (report.regularization == 0).all()
    without = make_group(make_config(lambda_reg=0.0))
    without.run(0, [[snapshot(1, accuracy=0.9)]])
    assert untrained.images.equal(without.images)


def test_a_step_goes_downhill():
    config = make_config(lr_img=1e-4, momentum_img=0.0, seed=3)
    group = make_group(config)
    before = group.run(0, sequence(1))
    after = group.run(0, sequence(1))
    total_before, total_after = ((r.matching + r.regularization).sum() for r in (before, after))
    assert total_after < total_before


def test_a_loss_that_is_not_finite_names_class_model_and_iteration():
    def broken(iteration, c):
        images, weights = real_batch(iteration, c)
        return (images * float("nan") if (iteration, c) == (1, 2) else images), weights

    group = make_group(make_config(num_matched_models=2), [1, 2, 3], real=broken)
    with pytest.raises(NonFiniteLossError) as raised:
        group.run(0, sequence(3, num_matched=2))
    assert str(raised.value) == (
        "the loss of class 2 is not finite at iteration 1, matched on model 10, 11; lower lr_img "
        "or lambda_reg, or use precision float32"
    )


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_images_that_left_the_finite_numbers_are_noticed(value):
    first = start()
    first[1, 0, 0, 3, 3] = value
    with pytest.raises(NonFiniteLossError, match=r"class 1 .* iteration 0, .* model 0;"):
        make_group(make_config(), first=first).run(0, sequence(1))


def test_weights_may_be_a_read_only_view_of_shared_memory():
    shared, own = snapshot(1), snapshot(1)
    shared.weights.flags.writeable = False
    groups = [make_group(make_config()) for _ in range(2)]
    for group, matched in zip(groups, (shared, own), strict=True):
        group.run(0, [[matched]])
    assert groups[0].images.equal(groups[1].images)


class PixelNetwork:
    """Its features are the pixels; remembers how many images it got at once."""

    def __init__(self, num_classes, num_pixels):
        self.passes = []
        self.parts = Numerics(images_per_pass=70).parts
        self._head = normal(num_pixels, num_classes)

    def load(self, weights):
        pass

    def freeze(self):
        return self

    def features(self, images):
        if not torch.is_grad_enabled():
            self.passes.append(len(images))
        return images.flatten(1)

    def head(self, features):
        return features @ self._head


def test_many_real_images_are_passed_in_nearly_equal_parts_that_fit_memory():
    side, num_images = 4, 150
    images = normal(num_images, 1, side, side)
    weights = torch.full((num_images,), 1 / num_images, dtype=torch.float64)
    network = PixelNetwork(1, side * side)
    group = class_group(
        CondenseConfig(partition=1, lambda_reg=0.0),
        [0],
        num_classes=1,
        operations=("flip",),
        network=network,
        real_batches=lambda iteration, c: (images, weights),
        start=torch.zeros(1, 1, 1, side, side, dtype=torch.float64),
    )
    report = group.run(0, [[snapshot(1)]])
    assert network.passes == [50, 50, 50]
    # Mirrored or not, the squared norm of the mean picture is the same.
    expected = images.mean(0).square().sum().item()
    np.testing.assert_allclose(report.matching, [[expected]], rtol=1e-10)
