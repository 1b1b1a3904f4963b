"""Convolution against plain loops in float64, over strides, paddings, dilations and groups; and its derivatives."""

import itertools

import numpy as np
import pytest
import references
from cases import relative

import minigrad as mg
from minigrad import Tensor, functional, ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.gradcheck import check_gradients
from minigrad.ops.convolution import output_length

PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
STRIDES = [(1, 1), (2, 3)]
PADDINGS = [((0, 0), (0, 0)), ((1, 1), (2, 2)), ((2, 0), (0, 1))]
DILATIONS = [(1, 1), (2, 1), (3, 2)]
GROUPS = [1, 2, 4]


def draw(x_shape, w_shape, dtype=np.float64, bias=True):
    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=x_shape), rng.normal(size=w_shape)]
    return [a.astype(dtype) for a in (*arrays, rng.normal(size=w_shape[0]))[: 3 if bias else 2]]


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"),
                         list(itertools.product(STRIDES, PADDINGS, DILATIONS, GROUPS)), ids=str)
def test_two_dimensions(stride, padding, dilation, groups):
    x, w, b = draw((2, 4, 8, 7), (4, 4 // groups, 2, 3))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y = ops.convolution(x, w, b, **options)
    assert relative(y, references.convolution(x, w, b, **options)) <= 1e-13
    xs = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    u = np.random.default_rng(4).normal(size=y.shape)
    gx, gw, gb = mg.grad(ops.convolution(*xs, **options), xs, u)
    assert relative(gb.numpy(), u.sum((0, 2, 3))) <= 1e-13
    # y is bilinear, so ⟨u, y(x, w)⟩ = ⟨gx, x⟩ = ⟨gw, w⟩; in directions of their own these are the derivatives.
    dx, dw = (np.random.default_rng(5).normal(size=a.shape) for a in (x, w))
    along_x = np.sum(u * references.convolution(dx, w, **options))
    along_w = np.sum(u * references.convolution(x, dw, **options))
    assert np.sum(gx.numpy() * dx) == pytest.approx(along_x, rel=1e-10, abs=1e-10)
    assert np.sum(gw.numpy() * dw) == pytest.approx(along_w, rel=1e-10, abs=1e-10)


ONE_AND_THREE = [
    ((2, 4, 9), (6, 2, 3), {"stride": (2,), "padding": ((1, 2),), "dilation": (2,), "groups": 2}),
    ((1, 2, 4, 3, 5), (3, 2, 2, 1, 3),
     {"stride": (1, 2, 2), "padding": ((0, 1), (0, 0), (1, 1)), "dilation": (2, 1, 1), "groups": 1}),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "options"), ONE_AND_THREE, ids=["1d", "3d"])
def test_other_numbers_of_axes(x_shape, w_shape, options):
    x, w, b = draw(x_shape, w_shape)
    assert relative(ops.convolution(x, w, b, **options), references.convolution(x, w, b, **options)) <= 1e-13
    check_gradients(lambda *xs: ops.convolution(*xs, **options), (x, w, b), 2, elements=6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation"), [
    ((1, 1), ((0, 0), (0, 0)), (1, 1)), ((2, 1), ((1, 1), (0, 1)), (1, 1)), ((1, 2), ((2, 0), (1, 1)), (2, 1)),
    ((3, 3), ((0, 0), (0, 0)), (1, 1)),
], ids=str)
def test_derivatives_to_order_three(stride, padding, dilation, groups):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    errors = check_gradients(lambda *xs: ops.convolution(*xs, **options), draw((2, 2, 4, 5), (2, 2 // groups, 2, 2)), 3)
    assert max(errors) <= 1e-9


def test_inputs_that_no_window_meets_have_gradient_zero():
    x = Tensor(np.ones((1, 1, 5, 5)), requires_grad=True)
    ops.convolution(x, np.ones((1, 1, 2, 2)), None, **PLAIN | {"stride": (3, 3)}).sum().backward()
    rows = np.array([1, 1, 0, 1, 1])
    np.testing.assert_array_equal(x.grad.numpy()[0, 0], np.outer(rows, rows))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float16, 2e-3)], ids=["float32", "float16"])
def test_narrow_dtypes(dtype, tolerance):
    arrays = draw((2, 8, 6, 6), (4, 8, 3, 3), dtype)
    y = ops.convolution(*arrays, **PLAIN)
    assert y.dtype == dtype
    assert relative(y, references.convolution(*(a.astype(np.float64) for a in arrays))) <= tolerance


def test_weight_gradient_over_a_large_batch_in_half_precision():
    """4,096 ones must not stop at 2,048, where float16 can no longer count."""
    w = Tensor(np.zeros((1, 3, 1, 1), np.float16), requires_grad=True)
    ops.convolution(Tensor(np.ones((4096, 3, 1, 1), np.float16)), w, None, **PLAIN).sum().backward()
    assert w.grad.tolist() == [[[[4096]]] * 3]


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.flip(np.flip(a).copy())],
                         ids=["fortran", "reversed"])
def test_memory_layouts(layout):
    arrays = draw((2, 2, 4, 4), (3, 2, 2, 2))
    views = [layout(a) for a in arrays]
    found = [Tensor(a, requires_grad=True) for a in views]
    wanted = [Tensor(a, requires_grad=True) for a in arrays]
    y, z = ops.convolution(*found, **PLAIN), ops.convolution(*wanted, **PLAIN)
    assert relative(y.numpy(), z.numpy()) <= 1e-14
    for g, h in zip(mg.grad((y * y).sum(), found), mg.grad((z * z).sum(), wanted)):
        assert relative(g.numpy(), h.numpy()) <= 1e-13


def test_one_by_one_is_a_matrix_product():
    x, w = draw((2, 3, 4, 5), (6, 3, 1, 1), bias=False)
    assert relative(ops.convolution(x, w, None, **PLAIN), np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0])) <= 1e-14


def test_depthwise_channels_do_not_meet():
    x, w = draw((1, 4, 5, 5), (4, 1, 3, 3), bias=False)
    y = ops.convolution(x, w, None, **PLAIN | {"groups": 4})
    for c in range(4):
        alone = references.convolution(x[:, c : c + 1], w[c : c + 1])
        assert relative(y[:, c : c + 1], alone) <= 1e-14


@pytest.mark.parametrize("n", range(1, 12))
def test_output_length_counts_places(n):
    for kernel, stride, pad, dilation in itertools.product((1, 2, 3), (1, 2, 3), (0, 1), (1, 2)):
        starts = [s for s in range(0, n + 2 * pad, stride) if s + dilation * (kernel - 1) < n + 2 * pad]
        if starts:
            assert output_length(n, kernel, stride, pad, pad, dilation) == len(starts)


@pytest.mark.parametrize(("x_shape", "w_shape", "options", "error", "said"), [
    ((1, 3, 5, 5), (4, 2, 3, 3), {}, ShapeError, "2 input channels"),
    ((1, 3, 5), (4, 3, 3, 3), {}, ShapeError, "one rank"),
    ((3, 5), (4, 3), {}, ShapeError, "one rank"),
    ((1, 4, 5, 5), (3, 2, 3, 3), {"groups": 2}, ShapeError, "groups 2"),
    ((1, 2, 2, 2), (1, 2, 3, 3), {}, ShapeError, "as long as"),
    ((1, 2, 4, 4), (1, 2, 3, 3), {"dilation": (2, 1)}, ShapeError, "dilation"),
    ((1, 2, 4, 4), (1, 2, 3, 3), {"stride": (0, 1)}, ArgumentError, "stride"),
    ((1, 2, 4, 4), (1, 2, 3, 3), {"padding": ((0, -1), (0, 0))}, ArgumentError, "padding"),
    ((1, 2, 4, 4), (1, 2, 3, 3), {"groups": 0}, ArgumentError, "groups"),
], ids=lambda v: str(v) if isinstance(v, (tuple, dict)) else "")
def test_refusals(x_shape, w_shape, options, error, said):
    with pytest.raises(error, match=said):
        ops.convolution(np.ones(x_shape), np.ones(w_shape), None, **PLAIN | options)


def test_bias_of_the_wrong_length():
    with pytest.raises(ShapeError, match=r"bias \(2,\); wanted \(3,\)"):
        ops.convolution(np.ones((1, 1, 3, 3)), np.ones((3, 1, 1, 1)), np.ones(2), **PLAIN)


def test_the_rank_of_a_weight_is_named():
    with pytest.raises(ShapeError, match=r"conv2d: got weight \(3, 3\); wanted \(O, C/groups, …\), 2 spatial axes"):
        functional.conv2d(np.ones((1, 1, 3, 3)), np.ones((3, 3)))
