import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from idm_ray.algorithm.losses import (
    class_aware_regularization,
    class_means,
    gradient_distance,
    matching_loss,
)
from tests import reference
from tests.algorithm.making import normal, uniform

CLASSES, IMAGES, FEATURES, OUTPUTS = 3, 5, 7, 6


def equal_weights(images=IMAGES):
    return torch.full((CLASSES, images), 1 / images, dtype=torch.float64)


def both_means(real, syn):
    return (
        class_means(real, equal_weights(real.shape[1])),
        class_means(syn, equal_weights(syn.shape[1])),
    )


def regularization(logits, labels, accuracy=0.6, lambda_reg=0.5):
    return class_aware_regularization(logits, labels, accuracy=accuracy, lambda_reg=lambda_reg)


@pytest.fixture
def features():
    return normal(CLASSES, IMAGES, FEATURES, seed=1)


@pytest.fixture
def syn_features():
    return normal(CLASSES, 2, FEATURES, seed=2)


@pytest.fixture
def logits():
    return 3 * normal(CLASSES, IMAGES, OUTPUTS, seed=3)


@pytest.fixture
def labels():
    return torch.tensor([4, 0, 5])


def test_class_means_equal_the_reference(features):
    means = class_means(features, equal_weights())
    expected = np.stack([reference.class_mean(f) for f in features.numpy()])
    np.testing.assert_allclose(means, expected, rtol=1e-13)


def test_images_of_weight_zero_do_not_count_in_a_class_mean(features):
    weights = torch.zeros(CLASSES, IMAGES, dtype=torch.float64)
    weights[:, :2] = 0.5
    means = class_means(features, weights)
    torch.testing.assert_close(means, features[:, :2].mean(dim=1))


def test_class_means_do_not_depend_on_the_order_of_a_class_images(features):
    shuffled = features[:, [3, 1, 4, 0, 2]]
    torch.testing.assert_close(
        class_means(shuffled, equal_weights()), class_means(features, equal_weights())
    )


def test_class_means_have_the_right_gradient(features):
    weights = uniform(CLASSES, IMAGES)
    assert gradcheck(lambda f: class_means(f, weights), features.requires_grad_())


def test_matching_loss_equals_the_reference(features, syn_features):
    losses = matching_loss(*both_means(features, syn_features))
    expected = [
        reference.matching_loss(r, s)
        for r, s in zip(features.numpy(), syn_features.numpy(), strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-13)


def test_matching_loss_is_a_sum_over_features():
    real = torch.zeros(1, 2048)
    assert matching_loss(real, real + 2).item() == 4 * 2048


def test_matching_loss_is_zero_for_equal_means_and_symmetric(features, syn_features):
    real, syn = both_means(features, syn_features)
    assert matching_loss(real, real).tolist() == [0, 0, 0]
    assert matching_loss(real, syn).tolist() == matching_loss(syn, real).tolist()


def test_matching_loss_ignores_a_constant_added_to_both_sides(features, syn_features):
    shift = normal(FEATURES, seed=9)
    before = matching_loss(*both_means(features, syn_features))
    after = matching_loss(*both_means(features + shift, syn_features + shift))
    torch.testing.assert_close(after, before)


def test_matching_loss_grows_with_the_square_of_the_scale(features, syn_features):
    before = matching_loss(*both_means(features, syn_features))
    after = matching_loss(*both_means(3 * features, 3 * syn_features))
    torch.testing.assert_close(after, 9 * before)


def test_matching_loss_follows_the_order_of_the_classes(features, syn_features):
    order = [2, 0, 1]
    before = matching_loss(*both_means(features, syn_features))
    after = matching_loss(*both_means(features[order], syn_features[order]))
    torch.testing.assert_close(after, before[order])


def test_matching_loss_has_the_right_gradient(features, syn_features):
    real, syn = (x.requires_grad_() for x in both_means(features, syn_features))
    assert gradcheck(matching_loss, (real, syn))


def test_regularization_equals_the_reference(logits, labels):
    losses = regularization(logits, labels, accuracy=0.37, lambda_reg=0.8)
    expected = [
        reference.regularization(rows, label, 0.37, 0.8)
        for rows, label in zip(logits.numpy(), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


def test_accuracy_60_percent_and_lambda_one_half_weigh_the_cross_entropy_by_30(labels):
    # Equal logits: the cross-entropy is log(6).
    logits = torch.zeros(CLASSES, IMAGES, OUTPUTS, dtype=torch.float64)
    expected = torch.full((CLASSES,), 30 * np.log(6), dtype=torch.float64)
    torch.testing.assert_close(regularization(logits, labels), expected)


@pytest.mark.parametrize(("accuracy", "lambda_reg"), [(0.0, 0.5), (0.6, 0.0)])
def test_regularization_of_an_untrained_network_or_without_weight_is_zero(
    logits, labels, accuracy, lambda_reg
):
    assert regularization(logits, labels, accuracy, lambda_reg).tolist() == [0, 0, 0]


def test_regularization_does_not_depend_on_the_order_of_a_class_images(logits, labels):
    shuffled = logits[:, [3, 1, 4, 0, 2]]
    torch.testing.assert_close(regularization(shuffled, labels), regularization(logits, labels))


def test_regularization_ignores_a_constant_added_to_all_logits_of_an_image(logits, labels):
    shift = normal(CLASSES, IMAGES, 1, seed=9)
    torch.testing.assert_close(
        regularization(logits + shift, labels), regularization(logits, labels)
    )


def test_regularization_follows_the_order_of_the_classes(logits, labels):
    order = [2, 0, 1]
    torch.testing.assert_close(
        regularization(logits[order], labels[order]), regularization(logits, labels)[order]
    )


def test_regularization_is_a_mean_over_images_so_repeating_them_changes_nothing(logits, labels):
    torch.testing.assert_close(
        regularization(logits.repeat(1, 3, 1), labels), regularization(logits, labels)
    )


def test_regularization_has_the_right_gradient(logits, labels):
    assert gradcheck(lambda z: regularization(z, labels), logits.requires_grad_())


def gradients(seed):
    """As of a convolution, its bias, a norm and a linear layer."""
    shapes = [(4, 2, 3, 3), (4,), (4,), (4,), (3, 5), (3,)]
    return tuple(normal(*shape, seed=seed + n) for n, shape in enumerate(shapes))


def test_the_distance_of_gradients_equals_the_reference():
    real, syn = gradients(10), gradients(20)
    expected = reference.gradient_distance([g.numpy() for g in real], [g.numpy() for g in syn])
    assert gradient_distance(real, syn).item() == pytest.approx(expected, rel=1e-12)


def test_the_derivative_of_the_distance_of_gradients_is_right():
    leaves = tuple(g.requires_grad_() for g in (*gradients(10), *gradients(20)))
    assert gradcheck(lambda *both: gradient_distance(both[:6], both[6:]), leaves)


def test_a_gradient_is_nowhere_from_its_multiples_and_twice_as_far_from_its_opposite():
    real = gradients(10)
    rows = 4 + 3
    near = gradient_distance(real, [3 * g for g in real]).item()
    assert near == pytest.approx(0, abs=rows * 1e-6)
    assert gradient_distance(real, [-g for g in real]).item() == pytest.approx(2 * rows, abs=1e-5)


def test_biases_and_norms_do_not_count_in_the_distance_of_gradients():
    real, syn = gradients(10), gradients(20)
    others = tuple(5 * g if g.dim() == 1 else g for g in syn)
    assert gradient_distance(real, syn).equal(gradient_distance(real, others))


def test_an_output_without_gradient_has_distance_one_and_a_finite_derivative():
    real, syn = gradients(10), gradients(20)
    syn[4][1] = 0
    with_zeros = gradient_distance(real, syn)
    syn[4][1] = real[4][1]
    assert with_zeros.item() == pytest.approx(gradient_distance(real, syn).item() + 1, abs=1e-5)
    syn[4][1] = 0
    leaf = syn[4].requires_grad_()
    assert torch.autograd.grad(gradient_distance(real, syn), leaf)[0].isfinite().all()
