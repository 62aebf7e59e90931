import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from idm_ray.algorithm.augment import (
    OPERATIONS,
    AugmentParams,
    allowed_operations,
    augment,
    draw_per_image,
    draw_siamese,
)
from idm_ray.algorithm.randomness import generator
from tests import reference
from tests.algorithm.making import normal, uniform

SIZES = [(8, 8), (28, 28), (7, 7), (9, 6)]
LARGEST_UNIFORM = math.nextafter(1, 0)


def params(operation, uniforms):
    return AugmentParams((operation,) * len(uniforms), torch.as_tensor(uniforms))


def draws_of(operation, num_groups, seed=0):
    """Parameters of one operation for many groups."""
    return params(operation, uniform(num_groups, 3, seed=seed))


def expected_torch(images, augmentation):
    groups = zip(images, augmentation.operations, augmentation.uniforms, strict=True)
    return torch.stack([reference.augment_torch(*group) for group in groups])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_equals_the_pixel_loop(operation, size):
    images = normal(3, 1, 3, *size)
    augmentation = draws_of(operation, 3)
    augmented = augment(images, augmentation)
    for group in range(3):
        expected = reference.augment(
            images[group, 0].numpy(), operation, augmentation.uniforms[group]
        )
        np.testing.assert_allclose(augmented[group, 0], expected, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_equals_torch_s_own_sampling_in_value_and_gradient(operation, size):
    images = normal(8, 2, 3, *size).requires_grad_()
    augmentation = draws_of(operation, 8, seed=1)
    ours, theirs = augment(images, augmentation), expected_torch(images, augmentation)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    upstream = normal(*ours.shape, seed=2)
    gradients = [torch.autograd.grad(out, images, upstream)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_s_gradient_is_the_transpose_of_the_pixel_loop(operation):
    # Every operation is affine: <A(x) - A(0), g> = <x, gradient of <A(x), g>>.
    images, upstream = normal(1, 1, 3, 9, 6).requires_grad_(), normal(3, 9, 6, seed=1).numpy()
    augmentation = draws_of(operation, 1, seed=2)
    (gradient,) = torch.autograd.grad(
        augment(images, augmentation), images, torch.from_numpy(upstream)[None, None]
    )
    at_images, at_zero = (
        reference.augment(x, operation, augmentation.uniforms[0])
        for x in (images.detach()[0, 0].numpy(), np.zeros((3, 9, 6)))
    )
    inner = ((at_images - at_zero) * upstream).sum()
    np.testing.assert_allclose((images * gradient).sum().item(), inner, rtol=1e-12)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_has_the_right_gradient(operation):
    augmentation = draws_of(operation, 2)
    images = normal(2, 2, 2, 5, 4).requires_grad_()
    assert gradcheck(lambda x: augment(x, augmentation), images)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_operations_stay_in_range_at_the_smallest_and_largest_uniform_number(operation):
    for dtype, size in itertools.product((torch.float32, torch.float64), SIZES):
        images = normal(2, 1, 3, *size)
        extremes = params(operation, np.array([[0.0] * 3, [LARGEST_UNIFORM] * 3]))
        expected = expected_torch(images, extremes)
        augmented = augment(images.to(dtype), extremes)
        torch.testing.assert_close(augmented, expected.to(dtype), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_all_images_of_a_group_are_treated_alike(operation):
    images = normal(1, 5, 3, 8, 8)
    augmentation = draws_of(operation, 1)
    one_by_one = [augment(images[:, i : i + 1], augmentation) for i in range(5)]
    torch.testing.assert_close(augment(images, augmentation), torch.cat(one_by_one, dim=1))


def test_real_and_synthetic_images_of_a_class_get_the_same_operation():
    # Siamese: the same picture in batches of different sizes comes out the same.
    picture = normal(1, 1, 3, 8, 8)
    augmentation = draw_siamese(OPERATIONS, [generator(0, "augment", 7, 3)])
    few, many = (augment(picture.expand(1, n, 3, 8, 8), augmentation) for n in (2, 9))
    torch.testing.assert_close(few[:, 0], many[:, 8])


def test_mixed_operations_in_one_call_keep_the_order_of_the_groups():
    operations = ("rotate", "color", "flip", "color", "crop", "cutout", "scale", "flip")
    mixed = AugmentParams(operations, uniform(len(operations), 3))
    images = normal(len(operations), 2, 3, 8, 8).requires_grad_()
    augmented = augment(images, mixed)
    alone = [
        augment(images[i : i + 1], params(name, mixed.uniforms[i : i + 1]))
        for i, name in enumerate(operations)
    ]
    torch.testing.assert_close(augmented, torch.cat(alone))
    upstream = normal(*images.shape, seed=1)
    gradients = [
        torch.autograd.grad(out, images, upstream)[0] for out in (augmented, torch.cat(alone))
    ]
    torch.testing.assert_close(*gradients)


def test_colour_changes_brightness_then_saturation_then_contrast():
    image = normal(3, 8, 8).numpy()
    shift, saturation, contrast = 0.3, 1.7, 0.6
    expected = reference.contrast(
        reference.saturation(reference.brightness(image, shift), saturation), contrast
    )
    uniforms = torch.tensor([[shift + 0.5, saturation / 2, contrast - 0.5]], dtype=torch.float64)
    augmented = augment(torch.from_numpy(image)[None, None], params("color", uniforms))
    np.testing.assert_allclose(augmented[0, 0], expected, atol=1e-12)


def test_contrast_is_about_the_mean_of_each_image():
    images = normal(1, 2, 3, 8, 8) + torch.tensor([0.0, 50.0]).reshape(1, 2, 1, 1, 1)
    brightness_and_contrast = torch.tensor([[0.5, 0.5, 0.9]], dtype=torch.float64)
    augmented = augment(images, params("color", brightness_and_contrast))
    torch.testing.assert_close(augmented.mean((2, 3, 4)), images.mean((2, 3, 4)))


@pytest.mark.parametrize(
    ("size", "largest"), [((8, 8), (1, 1)), ((28, 28), (4, 4)), ((9, 20), (1, 3))]
)
def test_crop_shifts_cover_every_whole_number_up_to_an_eighth(size, largest):
    num_groups = 2000
    dot = torch.zeros(1, 1, 1, *size, dtype=torch.float64)
    middle = (size[0] // 2, size[1] // 2)
    dot[..., middle[0], middle[1]] = 1
    augmented = augment(dot.expand(num_groups, -1, -1, -1, -1), draws_of("crop", num_groups))
    found = augmented.nonzero()[:, -2:] - torch.tensor(middle)
    assert len(found) == num_groups
    counts = Counter(map(tuple, found.tolist()))
    ranges = [range(-s, s + 1) for s in largest]
    assert set(counts) == set(itertools.product(*ranges))
    assert max(counts.values()) < 2 * num_groups / len(counts)


def cut_rows(centre, size):
    k = math.floor(size / 2 + 0.5)
    return {min(max(row, 0), size - 1) for row in range(centre - k // 2, centre - k // 2 + k)}


@pytest.mark.parametrize(("size", "last_centre"), [(8, 8), (7, 7), (9, 8), (6, 5), (28, 28)])
def test_cutout_centres_reach_the_far_border_where_the_cut_has_even_length(size, last_centre):
    num_groups = 1500
    ones = torch.ones(num_groups, 1, 1, size, size)
    kept = augment(ones, draws_of("cutout", num_groups))[:, 0, 0]
    for axis in (1, 2):
        cut = (kept == 0).any(dim=axis)
        found = Counter(frozenset(row.nonzero()[:, 0].tolist()) for row in cut)
        centres = range(last_centre + 1)
        assert set(found) == {frozenset(cut_rows(centre, size)) for centre in centres}
        assert max(found.values()) < 2 * num_groups / len(centres)


def test_a_cutout_is_a_rectangle_of_zeros_in_all_channels_and_leaves_the_rest():
    images = normal(40, 2, 3, 8, 8)
    augmented = augment(images, draws_of("cutout", 40))
    cut = augmented == 0
    assert (cut == cut[:, :1, :1]).all()
    assert augmented[~cut].equal(images[~cut])
    area = cut[:, 0, 0].sum((1, 2))
    sides = cut[:, 0, 0].any(2).sum(1) * cut[:, 0, 0].any(1).sum(1)
    assert area.equal(sides)


def test_half_of_the_groups_are_mirrored():
    images = normal(1, 2, 1, 4, 4).expand(2000, -1, -1, -1, -1)
    augmented = augment(images, draws_of("flip", 2000))
    mirrored = (augmented == images.flip(-1)).flatten(1).all(1)
    assert ((augmented == images).flatten(1).all(1) ^ mirrored).all()
    assert 900 < mirrored.sum() < 1100


def test_without_flips_the_flip_is_left_out_and_all_else_stays():
    assert OPERATIONS == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert allowed_operations(flips=True) == OPERATIONS
    assert allowed_operations(flips=False) == ("color", "crop", "cutout", "scale", "rotate")


@pytest.mark.parametrize("flips", [True, False])
def test_a_class_draws_each_allowed_operation_equally_often(flips):
    allowed = allowed_operations(flips)
    draws = draw_siamese(allowed, [generator(i) for i in range(6000)])
    counts = Counter(draws.operations)
    assert set(counts) == set(allowed)
    share = 6000 / len(allowed)
    assert all(abs(count - share) < 4 * math.sqrt(share) for count in counts.values())


@pytest.mark.parametrize("flips", [True, False])
def test_a_batch_draws_each_allowed_operation_equally_often(flips):
    allowed = allowed_operations(flips)
    draws = generator(0, "draws")
    counts = Counter(draw_per_image(allowed, 1, draws).operations[0] for _ in range(6000))
    assert set(counts) == set(allowed)
    share = 6000 / len(allowed)
    assert all(abs(count - share) < 4 * math.sqrt(share) for count in counts.values())


def test_uniform_numbers_are_uniform_and_independent_of_the_operation():
    draws = draw_siamese(OPERATIONS, [generator(i) for i in range(6000)])
    assert draws.uniforms.dtype == torch.float64
    assert draws.uniforms.shape == (6000, 3)
    for name in OPERATIONS:
        chosen = draws.uniforms[[i for i, op in enumerate(draws.operations) if op == name]]
        assert ((chosen >= 0) & (chosen < 1)).all()
        torch.testing.assert_close(
            chosen.mean(0), torch.full((3,), 0.5, dtype=torch.float64), atol=0.04, rtol=0
        )
        correlations = torch.corrcoef(chosen.T) - torch.eye(3)
        assert correlations.abs().max() < 0.12


def test_a_class_s_draw_does_not_depend_on_which_other_classes_are_in_the_call():
    def draw(classes):
        return draw_siamese(OPERATIONS, [generator(5, "augment", 2, c) for c in classes])

    together, apart = draw([0, 1, 2, 3]), draw([2])
    assert apart.operations == together.operations[2:3]
    assert apart.uniforms.equal(together.uniforms[2:3])


def test_a_class_draws_anew_with_every_generator():
    draws = draw_siamese(OPERATIONS, [generator(5, "augment", i, 2) for i in range(20)])
    assert len(set(draws.operations)) > 1
    assert len(draws.uniforms.unique()) == 60


def test_in_evaluation_a_batch_has_one_operation_and_every_image_its_own_parameters():
    for seed in range(10):
        draws = draw_per_image(OPERATIONS, 7, generator(seed))
        assert draws.operations == (draws.operations[0],) * 7
        assert draws.uniforms.shape == (7, 3)
        assert len(draws.uniforms.unique()) == 21


def test_draws_follow_from_the_generator_alone():
    for draw in (
        lambda: draw_siamese(OPERATIONS, [generator(1), generator(2)]),
        lambda: draw_per_image(OPERATIONS, 5, generator(1)),
    ):
        first, second = draw(), draw()
        assert first.operations == second.operations
        assert first.uniforms.equal(second.uniforms)


def test_augmenting_changes_neither_the_images_nor_their_type():
    for name in OPERATIONS:
        images = normal(2, 1, 3, 8, 8).float()
        before = images.clone()
        augmented = augment(images, draws_of(name, 2))
        assert augmented.dtype == torch.float32
        assert images.equal(before)
