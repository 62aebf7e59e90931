import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from idm_ray.algorithm.expansion import enlarge, expand, partition_images, shrink, tile_size
from tests import reference
from tests.algorithm.making import normal

SIZES_AND_PARTITIONS = [((8, 8), 2), ((28, 28), 2), ((7, 7), 3), ((9, 6), 2), ((9, 6), 3)]


def test_partition_1_returns_the_images_themselves():
    images = normal(2, 3, 5, 5)
    assert expand(images, 1) is images


@pytest.mark.parametrize(("size", "partition"), SIZES_AND_PARTITIONS)
def test_expansion_equals_the_pixel_loop(size, partition):
    images = normal(2, 2, *size)
    expected = reference.expand(images.numpy(), partition)
    np.testing.assert_allclose(expand(images, partition), expected, atol=1e-13)


@pytest.mark.parametrize(("size", "partition"), SIZES_AND_PARTITIONS)
def test_expansion_equals_interpolate_in_value_and_gradient(size, partition):
    images = normal(2, 2, *size).requires_grad_()
    ours, theirs = expand(images, partition), reference.expand_torch(images, partition)
    torch.testing.assert_close(ours, theirs)
    upstream = normal(*ours.shape, seed=1)
    torch.testing.assert_close(
        *(torch.autograd.grad(out, images, upstream)[0] for out in (ours, theirs))
    )


def test_expansion_of_224_pixels_by_3_equals_interpolate_and_the_loop():
    images = normal(1, 3, 224, 224)
    expanded = expand(images, 3)
    assert expanded.shape == (9, 3, 224, 224)
    torch.testing.assert_close(expanded, reference.expand_torch(images, 3))
    tile = images[0, :, 74:148, 148:222].numpy()  # second row, third column
    for row, column in [(0, 0), (0, 223), (223, 0), (1, 1), (100, 37), (222, 221)]:
        expected = reference.enlarged_pixel(tile, row, column, 224, 224)
        np.testing.assert_allclose(expanded[5, :, row, column], expected, atol=1e-12)


def test_expansion_is_exact_enough_in_float32():
    images = normal(1, 3, 224, 224)
    expected = expand(images, 3).float()
    torch.testing.assert_close(expand(images.float(), 3), expected, atol=3e-5, rtol=0)


def test_tiles_come_image_by_image_and_row_by_row():
    # Each tile is of one colour, and enlarging keeps it.
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    images = images.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    expanded = expand(images, 2)
    assert expanded.shape == (8, 1, 6, 6)
    torch.testing.assert_close(expanded[:, 0, 2, 4], torch.arange(8.0))
    torch.testing.assert_close(expanded.amin((1, 2, 3)), expanded.amax((1, 2, 3)))


def test_expansion_treats_every_image_by_itself():
    images = normal(3, 2, 8, 8)
    one_by_one = torch.cat([expand(image.unsqueeze(0), 2) for image in images])
    torch.testing.assert_close(expand(images, 2), one_by_one)


def test_partition_cuts_without_changing_pixels():
    images = normal(2, 3, 9, 7)
    tiles = partition_images(images, 3)
    assert tiles.shape == (2, 9, 3, 3, 2)
    expected = np.stack([reference.tiles_of(image, 3) for image in images.numpy()])
    assert (tiles.numpy() == expected).all()


def test_rows_and_columns_that_are_left_over_have_no_gradient():
    images = normal(1, 1, 8, 7).requires_grad_()
    (gradient,) = torch.autograd.grad(expand(images, 3).sum(), images)
    assert (gradient[..., 6:, :] == 0).all()
    assert (gradient[..., :, 6:] == 0).all()
    assert (gradient[..., :6, :6] != 0).all()


def test_expansion_has_the_right_gradient():
    assert gradcheck(lambda x: expand(x, 2), normal(2, 1, 6, 5).requires_grad_())


def test_enlarging_also_shrinks_and_keeps_leading_dimensions():
    tiles = normal(2, 3, 4, 5, 6)
    expected = F.interpolate(tiles.flatten(0, 1), size=(7, 3), mode="bilinear")
    torch.testing.assert_close(enlarge(tiles, 7, 3), expected.unflatten(0, (2, 3)))


@pytest.mark.parametrize(("size", "partition"), [((8, 8), 2), ((12, 9), 3), ((7, 11), 3)])
def test_shrinking_equals_the_mean_over_areas(size, partition):
    images = normal(2, 3, *size)
    expected = np.stack([reference.shrink(image, partition) for image in images.numpy()])
    np.testing.assert_allclose(shrink(images, partition), expected, atol=1e-13)


def test_shrinking_by_1_changes_nothing():
    images = normal(2, 3, 5, 5)
    assert shrink(images, 1).equal(images)


def test_a_tile_may_have_2_pixels_but_not_fewer():
    assert tile_size(8, 4) == 2
    assert tile_size(224, 3) == 74
    with pytest.raises(ValueError, match="partition") as raised:
        tile_size(8, 5)
    assert str(raised.value) == (
        "partition must leave tiles of at least 2 pixels, got 5 for images of 8 pixels; "
        "use partition <= 4"
    )


@pytest.mark.parametrize("function", [expand, shrink, partition_images])
def test_tiles_that_are_too_small_are_refused_on_either_side(function):
    for size in [(8, 5), (5, 8)]:
        with pytest.raises(ValueError, match=r"use partition <= 2$"):
            function(normal(1, 1, *size), 3)
