import pytest
import torch
from torch.nn import functional as F

from idm_ray.errors import ResourceError
from idm_ray.native import library
from idm_ray.native import operations as native
from tests.algorithm.making import normal

needs_compiler = pytest.mark.skipif(library.load().functions is None, reason="no C++ compiler")
needs_dot_products = pytest.mark.skipif(
    not library.load().has_convolutions, reason="a processor without AVX512-BF16"
)
pytestmark = needs_compiler

SHAPES = [(1, 4, 2, 2), (3, 5, 7, 9), (2, 128, 16, 16), (2, 16, 8, 33)]
# Even, odd, smaller than a chunk of tiles, more than one group of tiles.
SIZES = [(1, 2, 2), (3, 8, 8), (5, 7, 9), (9, 16, 17)]
PADDED = [(2, 3, 8, 8, 1), (3, 1, 28, 28, 3), (2, 2, 5, 7, 1), (9, 3, 32, 32, 1)]


def channels_last(tensor, dtype=torch.float32):
    return tensor.to(dtype).contiguous(memory_format=torch.channels_last)


def relative(found, expected):
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


def norm_inputs(shape, dtype=torch.float32):
    n, c, h, w = shape
    images = channels_last(normal(*shape) + 3, dtype)
    gradient = channels_last(normal(n, c, h // 2, w // 2), dtype)
    return images, gradient, normal(c).float(), normal(c).float()


def reference_norm(images, weight, bias):
    return F.avg_pool2d(F.relu(F.group_norm(images, images.shape[1], weight, bias)), 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_relu_pool_is_what_its_three_layers_make_forward_and_backward(shape):
    images, gradient, weight, bias = norm_inputs(shape)
    exact = [t.double().requires_grad_() for t in (images, weight, bias)]
    expected = reference_norm(*exact)
    wanted = torch.autograd.grad(expected, exact, gradient.double())
    found, mean, rstd = native.norm_relu_pool(images, weight, bias, threads=2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-5)
    inputs = (gradient, images, weight, bias, mean, rstd)
    for ours, theirs in zip(
        native.norm_relu_pool_backward_(*inputs, threads=2), wanted, strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_norm_relu_pool_in_bfloat16_rounds_only_what_it_writes(shape):
    images, gradient, weight, bias = norm_inputs(shape, torch.bfloat16)
    exact, *statistics = native.norm_relu_pool(images.float(), weight, bias, threads=1)
    found, *theirs = native.norm_relu_pool(images, weight, bias, threads=1)
    assert found.equal(exact.bfloat16())
    assert all(a.equal(b) for a, b in zip(statistics, theirs, strict=True))
    inputs = (weight, bias, *statistics)
    wanted = native.norm_relu_pool_backward_(gradient.float(), images.float(), *inputs, threads=1)
    ours = native.norm_relu_pool_backward_(gradient, images, *inputs, threads=1)
    assert ours[0].equal(wanted[0].bfloat16())
    assert ours[1].equal(wanted[1])
    assert ours[2].equal(wanted[2])


def test_the_gradient_of_the_norm_takes_the_place_of_the_images():
    images, gradient, weight, bias = norm_inputs((2, 4, 4, 4))
    _, mean, rstd = native.norm_relu_pool(images, weight, bias, threads=1)
    found, _, _ = native.norm_relu_pool_backward_(
        gradient, images, weight, bias, mean, rstd, threads=1
    )
    assert found.data_ptr() == images.data_ptr()


def test_images_that_are_not_finite_make_results_that_are_not():
    images, _, weight, bias = norm_inputs((1, 4, 4, 4))
    for value in (float("nan"), float("inf")):
        images[0, 2, 1, 1] = value
        found, _, _ = native.norm_relu_pool(images, weight, bias, threads=1)
        assert found[0, 2].isnan().all()
        assert found[0, [0, 1, 3]].isfinite().all()


def kernel_inputs(n, c, h, w, *, out=128):
    weight = normal(out, c, 3, 3).float() / (3 * c**0.5)
    return normal(n, c, h, w).float().bfloat16().float(), weight, normal(out).float()


def exact_convolution(images, weight, bias, padding=1):
    """Result in float64, and gradients for a given gradient (rounded to bfloat16)."""
    exact = [t.double().requires_grad_() for t in (images, weight)]
    result = F.conv2d(*exact, bias.double(), padding=padding)
    gradient = normal(*result.shape).bfloat16()
    return result, gradient, torch.autograd.grad(result, exact, gradient.double())


@needs_dot_products
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [(128, 128), (64, 128), (128, 64)])
def test_winograd_s_convolution_is_the_plain_one_within_bfloat16(size, channels):
    n, h, w = size
    images, weight, bias = kernel_inputs(n, channels[0], h, w, out=channels[1])
    expected, gradient, (d_images, d_weight) = exact_convolution(images, weight, bias)
    images, gradient = (
        channels_last(images, torch.bfloat16),
        channels_last(gradient, torch.bfloat16),
    )
    found = native.winograd_convolution(images, weight, bias, threads=2)
    assert relative(found, expected) < 0.005
    assert relative(native.winograd_input_gradient(gradient, weight, threads=2), d_images) < 0.006
    assert relative(native.winograd_weight_gradient(images, gradient, threads=2), d_weight) < 0.006


@needs_dot_products
def test_winograd_s_convolution_is_exact_where_nothing_has_to_be_rounded():
    images = channels_last(torch.randint(-4, 5, (3, 64, 6, 5)).float(), torch.bfloat16)
    weight = 4.0 * torch.randint(-2, 3, (64, 64, 3, 3))  # its transform divides by four
    bias = torch.zeros(64)
    expected = F.conv2d(images.double(), weight.double(), padding=1)
    found = native.winograd_convolution(images, weight, bias, threads=1)
    assert found.equal(expected.bfloat16())
    turned = F.conv_transpose2d(images.double(), weight.double(), padding=1)
    assert native.winograd_input_gradient(images, weight, threads=1).equal(turned.bfloat16())


@needs_dot_products
@pytest.mark.parametrize("frame", PADDED)
def test_the_first_layer_s_convolution_is_the_plain_one_within_bfloat16(frame):
    *size, padding = frame
    images, weight, bias = kernel_inputs(*size)
    weight = weight.bfloat16().float()
    expected, gradient, (d_images, d_weight) = exact_convolution(images, weight, bias, padding)
    gradient = channels_last(gradient, torch.bfloat16)
    how = {"padding": padding, "threads": 2}
    found = native.first_convolution(images, weight, bias, **how)
    assert found.shape == expected.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert relative(found, expected) < 0.003  # the result is rounded
    assert relative(native.first_input_gradient(gradient, weight, **how), d_images) < 1e-6
    assert relative(native.first_weight_gradient(images, gradient, **how), d_weight) < 1e-6


@needs_dot_products
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_the_number_of_threads_changes_no_bit(threads):
    images, gradient, weight, bias = norm_inputs((7, 128, 16, 16), torch.bfloat16)
    kernel, offset = kernel_inputs(1, 128, 2, 2)[1:]
    first, first_kernel = kernel_inputs(7, 3, 16, 16)[:2]

    def everything(threads):
        pooled, mean, rstd = native.norm_relu_pool(images, weight, bias, threads=threads)
        statistics = (weight, bias, mean, rstd)
        return [
            *(pooled, mean, rstd),
            *native.norm_relu_pool_backward_(
                gradient, images.clone(), *statistics, threads=threads
            ),
            native.winograd_convolution(images, kernel, offset, threads=threads),
            native.winograd_input_gradient(images, kernel, threads=threads),
            native.winograd_weight_gradient(images, images, threads=threads),
            native.first_convolution(first, first_kernel, offset, padding=1, threads=threads),
            native.first_input_gradient(images, first_kernel, padding=1, threads=threads),
            native.first_weight_gradient(first, images, padding=1, threads=threads),
        ]

    for one, many in zip(everything(1), everything(threads), strict=True):
        assert one.equal(many)


def test_what_would_be_misread_is_refused():
    images, gradient, weight, bias = norm_inputs((2, 4, 4, 4))
    _, mean, rstd = native.norm_relu_pool(images, weight, bias, threads=1)
    statistics = (weight, bias, mean, rstd)
    kernel, offset = kernel_inputs(1, 64, 2, 2, out=64)[1:]
    maps = channels_last(normal(1, 64, 4, 4), torch.bfloat16)
    one = {"threads": 1}
    wrong = [
        lambda: native.norm_relu_pool(images.contiguous(), weight, bias, **one),
        lambda: native.norm_relu_pool(images, weight[:3], bias, **one),
        lambda: native.norm_relu_pool(images, weight.double(), bias, **one),
        lambda: native.norm_relu_pool_backward_(gradient.bfloat16(), images, *statistics, **one),
        lambda: native.norm_relu_pool_backward_(images, images, *statistics, **one),
        lambda: native.winograd_convolution(maps.float(), kernel, offset, **one),
        lambda: native.winograd_convolution(maps, kernel[:, :32], offset, **one),
        lambda: native.winograd_input_gradient(maps, kernel.double(), **one),
        lambda: native.winograd_weight_gradient(maps, maps[:, :, :2], **one),
        lambda: native.first_convolution(images, kernel[:, :4], offset, padding=1, **one),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"^expected .*, got|^expected .*; got"):
            call()


def test_a_node_that_cannot_compile_is_named_with_the_remedy(monkeypatch):
    images, _, weight, bias = norm_inputs((1, 4, 4, 4))
    none = library.Library(functions=None, obstacle="no C++ compiler was found")
    monkeypatch.setattr(library, "load", lambda: none)
    with pytest.raises(
        ResourceError, match=r"^node .* no C\+\+ compiler was found; .*--compile off"
    ):
        native.norm_relu_pool(images, weight, bias, threads=1)


def test_what_the_convolutions_handle():
    assert native.winograd_fits(torch.empty(128, 128, 3, 3))
    assert not native.winograd_fits(torch.empty(128, 3, 3, 3))
    assert not native.winograd_fits(torch.empty(100, 128, 3, 3))
    assert native.first_fits(torch.empty(128, 3, 3, 3))
    assert native.first_fits(torch.empty(64, 1, 3, 3))
    assert not native.first_fits(torch.empty(128, 4, 3, 3))
