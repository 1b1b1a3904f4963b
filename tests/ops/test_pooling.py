"""Pooling against plain loops, and its corners: ties, NaN, padding, overhanging windows, indices."""

import itertools

import numpy as np
import pytest
import references
from cases import grid, relative

import minigrad as mg
from minigrad import Tensor, functional, ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.gradcheck import check_gradients

KERNELS, STRIDES, PADDINGS = [(2, 2), (3, 2)], [(1, 1), (2, 3)], [(0, 0), (1, 1), (1, 0)]
GEOMETRIES = list(itertools.product(KERNELS, STRIDES, PADDINGS))


def draw(*shape):
    """Distinct elements at least 0.1 apart."""
    return grid(*shape).draw(np.random.default_rng(2), shape)


def max_pool(x, kernel, stride, padding, dilation=None, ceil_mode=False):
    return ops.max_pool(x, kernel, stride, padding, dilation or (1,) * len(kernel), ceil_mode)


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES, ids=str)
def test_against_loops(kernel, stride, padding):
    x = draw(2, 2, 6, 7)
    y, _ = max_pool(x, kernel, stride, padding)
    assert relative(y, references.pool(x, np.max, -np.inf, kernel, stride, padding)) == 0
    y = ops.avg_pool(x, kernel, stride, padding)
    assert relative(y, references.pool(x, np.mean, 0.0, kernel, stride, padding)) <= 1e-14
    inside = references.pool(x, np.nanmean, np.nan, kernel, stride, padding)
    assert relative(ops.avg_pool(x, kernel, stride, padding, count_include_pad=False), inside) <= 1e-14


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES[::3], ids=str)
def test_derivatives(kernel, stride, padding):
    x = draw(1, 2, 5, 4)
    check_gradients(lambda x: max_pool(x, kernel, stride, padding)[0], x, 2)
    check_gradients(lambda x: ops.avg_pool(x, kernel, stride, padding, ceil_mode=True), x, 2)
    check_gradients(lambda x: ops.square(max_pool(x, kernel, stride, padding)[0]), x, 3)


@pytest.mark.parametrize("axes", [1, 3])
def test_other_numbers_of_axes(axes):
    x = draw(2, 1, *(5, 4, 3)[:axes])
    geometry = ((2,) * axes, (2, 1, 1)[:axes], (1, 0, 1)[:axes])
    assert relative(max_pool(x, *geometry)[0], references.pool(x, np.max, -np.inf, *geometry)) == 0
    assert relative(ops.avg_pool(x, *geometry), references.pool(x, np.mean, 0.0, *geometry)) <= 1e-14
    check_gradients(lambda x: max_pool(x, *geometry)[0], x, 2)


def test_dilation():
    x = draw(1, 1, 5, 5)
    y, _ = max_pool(x, (2, 2), (1, 1), (0, 0), (2, 3))
    wanted = [[x[0, 0, i : i + 3 : 2, j : j + 4 : 3].max() for j in range(2)] for i in range(3)]
    np.testing.assert_array_equal(y[0, 0], wanted)


def test_overhanging_windows():
    """With ceil_mode the last window hangs over the end; what lies outside counts for nothing."""
    x = np.arange(1.0, 6.0).reshape(1, 1, 5)
    assert max_pool(x, (2,), (2,), (0,))[0].tolist() == [[[2, 4]]]
    assert max_pool(x, (2,), (2,), (0,), ceil_mode=True)[0].tolist() == [[[2, 4, 5]]]
    assert ops.avg_pool(x, (2,), (2,), (0,), ceil_mode=True).tolist() == [[[1.5, 3.5, 5]]]
    # A window may not start in the padding on the right: after (0, 1) and (3, 4) there is no (0, nothing).
    assert max_pool(x[..., :4], (2,), (3,), (1,), ceil_mode=True)[0].tolist() == [[[1, 4]]]
    # The padding asked for counts, what ceil_mode adds beyond it doesn't: the last window is (4, 5, 0), then nothing.
    assert ops.avg_pool(x, (4,), (2,), (1,), ceil_mode=True).tolist() == [[[1.5, 3.5, 3]]]


def test_divisor():
    x = draw(1, 1, 4, 4)
    total = ops.avg_pool(x, (2, 2), (2, 2), (0, 0), divisor_override=1)
    assert relative(total, 4 * references.pool(x, np.mean, 0.0, (2, 2), (2, 2), (0, 0))) <= 1e-14
    with pytest.raises(ArgumentError, match="divisor_override"):
        ops.avg_pool(x, (2, 2), (2, 2), (0, 0), divisor_override=0)


def test_the_first_of_equals_receives_the_gradient():
    x = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
    max_pool(x, (2, 2), (2, 2), (0, 0))[0].sum().backward()
    assert x.grad.tolist() == [[[[1, 0], [0, 0]]]]


def test_overlapping_windows_add_their_gradients():
    x = Tensor(np.array([[[0.0, 5.0, 1.0]]]), requires_grad=True)
    y, _ = max_pool(x, (2,), (1,), (0,))
    y.backward(np.array([[[2.0, 3.0]]]))
    assert x.grad.tolist() == [[[0, 5, 0]]]


def test_nan_and_infinities():
    x = np.array([[[1.0, np.nan, 2.0, -np.inf, -np.inf, np.inf, 3.0, np.nan, np.nan]]])
    y, which = max_pool(x, (3,), (3,), (0,))
    np.testing.assert_array_equal(y, [[[np.nan, np.inf, np.nan]]])
    assert which.tolist() == [[[1, 2, 1]]]
    assert max_pool(np.full((1, 1, 2), -np.inf), (2,), (2,), (1,))[0].tolist() == [[[-np.inf, -np.inf]]]


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES, ids=str)
def test_indices_lead_back_to_the_values(kernel, stride, padding):
    x = draw(2, 3, 6, 7)
    y, which = max_pool(x, kernel, stride, padding)
    assert which.dtype == np.int32
    flat = ops.flat_indices(which, (6, 7), kernel, stride, padding, (1, 1))
    assert flat.dtype == np.int64
    picked = np.take_along_axis(x.reshape(2, 3, 42), flat.reshape(2, 3, -1), 2)
    np.testing.assert_array_equal(picked.reshape(y.shape), y)


def test_indices_have_no_gradient():
    y, which = max_pool(Tensor(draw(1, 1, 4, 4), requires_grad=True), (2, 2), (2, 2), (0, 0))
    assert y.requires_grad
    assert not which.requires_grad


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float16, np.float32])
def test_dtypes(dtype):
    x = np.arange(-8, 8).reshape(1, 1, 4, 4).astype(dtype)
    y, _ = max_pool(x, (2, 2), (2, 2), (1, 1))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, references.pool(x.astype(float), np.max, -np.inf, (2, 2), (2, 2), (1, 1)))


def test_average_keeps_the_gradient_total():
    """Without padding every output spreads 1 over its window."""
    x = Tensor(draw(2, 2, 6, 6), requires_grad=True)
    y = ops.avg_pool(x, (3, 2), (3, 2), (0, 0))
    (g,) = mg.grad(y.sum(), x)
    assert relative(g.numpy(), np.full((2, 2, 6, 6), 1 / 6)) <= 1e-14


@pytest.mark.parametrize(("x", "dilation"), [
    (np.full((1, 1, 3, 3), -np.inf), (1, 1)), (np.full((1, 1, 5, 4), -np.inf), (2, 2)),
    (np.full((1, 1, 3, 3), np.iinfo(np.int8).min, np.int8), (1, 1)),
], ids=["-inf", "dilated", "int8"])
def test_padding_never_wins(x, dilation):
    """Elements as small as the padding itself: the first of them in the window, not the padding, is found."""
    options = ((2, 3), (1, 2), (1, 1), dilation)
    y, which = max_pool(x, *options)
    spatial = x.shape[2:]
    assert (y == x.min()).all()
    inside = np.pad(np.ones(spatial), 1)
    flat = ops.flat_indices(which, spatial, *options)
    for i, j in np.ndindex(*y.shape[2:]):
        places = [(i + a * dilation[0], 2 * j + b * dilation[1]) for a in range(2) for b in range(3)]
        first = next((p, q) for p, q in places if inside[p, q])
        assert flat[0, 0, i, j] == (first[0] - 1) * spatial[1] + first[1] - 1


def test_adaptive_windows_do_not_see_each_other():
    x = np.array([[[[1.0, 3.0, np.inf, 4.0], [1.0, 3.0, np.nan, 4.0]]]])
    y = functional.adaptive_avg_pool2d(x, (1, 2))
    assert y[0, 0, 0, 0] == 2
    assert functional.adaptive_avg_pool2d(x, (2, 2))[0, 0, 0].tolist() == [2, np.inf]


@pytest.mark.parametrize(("arguments", "error"), [
    (((2, 2), (1, 1), (2, 0)), ArgumentError), (((2, 2), (0, 1), (0, 0)), ArgumentError),
    (((0, 2), (1, 1), (0, 0)), ArgumentError), (((2, 2), (1, 1), (-1, 0)), ArgumentError),
    (((5, 2), (1, 1), (0, 0)), ShapeError), (((2,), (1,), (0,)), ShapeError),
], ids=str)
def test_refusals(arguments, error):
    for pool in (max_pool, ops.avg_pool):
        with pytest.raises(error, match=r"_pool: got .* wanted"):
            pool(np.ones((1, 1, 4, 4)), *arguments)
