"""Compiled convolution over two axes against its text in float64: values, all gradients, and theirs."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops
from minigrad.kernels.compiled import blas, convolution
from minigrad.ops.convolution import Convolution

pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(not blas.available(), reason="no BLAS of its own for the loops")



@pytest.fixture(autouse=True)
def compiled():
    """oneDNN, where it is installed, would serve most of these."""
    with kernels.tier("compiled"):
        yield


#: x, w, stride, padding (before, after) of both axes, dilation, groups
CASES = {
    "3x3": ((5, 3, 9, 8), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "no padding": ((2, 2, 6, 7), (3, 2, 2, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "asymmetric": ((4, 3, 7, 6), (2, 3, 3, 2), (1, 1), ((0, 2), (3, 1)), (1, 1), 1),
    "strided": ((5, 3, 9, 8), (4, 3, 3, 3), (2, 3), ((1, 0), (0, 2)), (1, 1), 1),
    "strided in one axis": ((3, 2, 8, 9), (4, 2, 3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "dilated": ((4, 2, 11, 10), (3, 2, 3, 2), (1, 1), ((2, 1), (0, 1)), (2, 3), 1),
    "strided and dilated": ((4, 2, 11, 10), (3, 2, 2, 3), (2, 2), ((1, 2), (2, 2)), (3, 2), 1),
    "groups": ((5, 6, 7, 8), (9, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "strided groups": ((2, 4, 9, 8), (4, 2, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 2),
    "depthwise": ((5, 4, 9, 8), (4, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 4),
    "depthwise, two of each": ((4, 3, 8, 7), (6, 1, 5, 4), (1, 1), ((2, 1), (0, 3)), (1, 1), 3),
    "depthwise, dilated": ((3, 2, 12, 11), (2, 1, 3, 4), (1, 1), ((1, 2), (3, 0)), (2, 2), 2),
    "depthwise, strided": ((3, 4, 9, 8), (4, 1, 3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), 4),
    "1x1": ((4, 5, 6, 7), (3, 5, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "1x1 strided": ((4, 5, 6, 7), (3, 5, 1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "one channel": ((7, 1, 9, 10), (5, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "one channel, strided": ((7, 1, 9, 10), (5, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
    "one channel, long rows": ((5, 1, 6, 50), (4, 1, 3, 3), (1, 1), ((2, 0), (1, 2)), (1, 1), 1),
    "one channel, whole vectors": ((4, 1, 5, 34), (3, 1, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one channel, one place": ((4, 1, 3, 3), (3, 1, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one channel, one row": ((4, 1, 1, 20), (3, 1, 3, 3), (1, 1), ((1, 1), (0, 2)), (1, 1), 1),
    "one channel, many images": ((70, 1, 5, 6), (2, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "one channel, far padding": ((4, 1, 6, 5), (3, 1, 3, 3), (1, 1), ((3, 1), (1, 1)), (1, 1), 1),
    "one channel, dilated": ((4, 1, 9, 8), (3, 1, 3, 3), (1, 1), ((2, 2), (1, 1)), (2, 1), 1),
    "one channel, 5×5": ((4, 1, 9, 8), (3, 1, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    "depthwise, two of each 3×3": ((5, 3, 8, 19), (6, 1, 3, 3), (1, 1), ((2, 2), (2, 2)), (1, 1), 3),
    "one image": ((1, 3, 9, 8), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    "one place": ((4, 3, 3, 3), (4, 3, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "places that no window meets": ((3, 2, 8, 8), (2, 2, 1, 2), (3, 3), ((0, 0), (0, 0)), (1, 1), 1),
}


def draw(x_shape, w_shape):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(x_shape), rng.standard_normal(w_shape), rng.standard_normal(w_shape[0])]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_to_order_two(case, bias, threads, ran):
    x, w, *options = CASES[case]
    arrays = draw(x, w)[: 3 if bias else 2]
    for order in (1, 2):  # a recorded backward runs as text, of operations that kernels serve
        compare(lambda x, w, b=None: ops.convolution(x, w, b, *options), arrays, 1e-5, order=order)
    name = "single" if w[1] == 1 and options[0] == (1, 1) else "products"
    if name == "single" and w[2:] == (3, 3) and options[2] == (1, 1) and np.max(options[1]) <= 2:
        name = "nine"
    assert {n for n, _ in ran} == ({name, "channel_sums"} if bias else {name})
    assert {parallel for n, parallel in ran if n == name} == {threads and x[0] > 1}


def test_same_padding_of_an_even_kernel(threads):
    compare(lambda x, w, b: F.conv2d(x, w, b, padding="same", dilation=(1, 2)), draw((4, 3, 7, 9), (5, 3, 4, 2)), 1e-5)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1, "output_padding": 1},
                                     {"stride": (2, 3), "dilation": (2, 1), "groups": 2}], ids=str)
def test_transposed(options, threads, ran):
    rng = np.random.default_rng(1)
    groups = options.get("groups", 1)
    arrays = [rng.standard_normal((5, 4, 5, 6)), rng.standard_normal((4, 3, 3, 2)), rng.standard_normal(3 * groups)]
    compare(lambda x, w, b: F.conv_transpose2d(x, w, b, **options), arrays, 1e-5, order=2)
    assert ("products", threads) in ran


@pytest.mark.parametrize("images", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_of_the_images(images, count, monkeypatch):
    """Also more threads than images, and batches that they do not divide."""
    monkeypatch.setattr(convolution, "PARALLEL_FROM", 0)
    monkeypatch.setattr(convolution, "get_num_threads", lambda: count)
    compare(lambda x, w, b: ops.convolution(x, w, b, (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
            draw((images, 2, 5, 6), (3, 2, 3, 3)), 1e-5)


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2] if a.ndim > 1 else a,
    lambda a: a[::-1], lambda a: a.swapaxes(-1, -2).copy().swapaxes(-1, -2) if a.ndim > 1 else a,
], ids=["Fortran", "every second", "reversed", "swapped"])
def test_other_layouts(layout, threads):
    def function(x, w, b):
        return ops.convolution(x, w, b, (1, 1), ((1, 0), (0, 1)), (1, 1), 1)

    compare(function, draw((3, 2, 5, 6), (4, 2, 3, 3)), 1e-5, layout=layout)
    compare(function, draw((3, 2, 5, 6), (4, 2, 3, 3)), 1e-5, upstream=layout)


def test_gradients_that_are_spread_over_places(threads):
    compare(lambda x, w, b: ops.sum(ops.convolution(x, w, b, (1, 1), ((1, 1), (1, 1)), (1, 1), 1), (2, 3)),
            draw((3, 2, 5, 6), (4, 2, 3, 3)), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-13)])
def test_other_dtypes_run_as_text(dtype, tolerance, ran):
    def function(x, w, b):
        return ops.convolution(x, w, b, (1, 1), ((1, 1), (1, 1)), (1, 1), 1)

    arrays = [a.astype(dtype) for a in draw((3, 2, 5, 6), (4, 2, 3, 3))]
    with kernels.disabled():
        wanted = derivatives(function, [a.astype(np.float64) for a in arrays])
        text = derivatives(function, arrays)
    got = derivatives(function, arrays)
    assert not ran
    for a, b, c in zip(got, text, wanted):
        assert a.dtype == dtype
        assert np.array_equal(a, b)
        assert np.abs(a - c).max() <= tolerance * np.abs(c).max()


def test_what_is_declined():
    op = Convolution((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    x, w, b = (a.astype(np.float32) for a in draw((3, 2, 5, 6), (4, 2, 3, 3)))
    assert convolution.forward(op, x, w, b) is not NotImplemented
    for given in ((x[:, :, ::2], w, b), (x, np.asfortranarray(w), b), (x.astype(np.float64), w, b),
                  (x, w.astype(np.float16), b), (x, w, b.astype(np.float64)), (x[:0], w, b), (x[..., 0], w[..., 0], b)):
        assert convolution.forward(op, *given) is NotImplemented
    assert convolution.backward(op, (x, w), (True, True, False), np.ones((3, 4, 3, 4), np.float32)) is NotImplemented


def test_an_empty_batch(threads):
    x, w, b = draw((0, 2, 5, 6), (4, 2, 3, 3))
    y, gx, gw, gb = compare(lambda *a: ops.convolution(*a, (1, 1), ((0, 0), (0, 0)), (1, 1), 1), (x, w, b), 0)
    assert y.shape == (0, 4, 3, 4)
    assert gx.shape == x.shape
    assert not gw.any()
    assert not gb.any()


@pytest.mark.parametrize("case", ["3x3", "strided", "depthwise", "one channel"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_stay_where_windows_see_them(case, bad, threads):
    """Rooms are used for one image after the other, and rows of output are computed longer than they are."""
    x_shape, w_shape, *options = CASES[case]
    x, w, b = (a.astype(np.float32) for a in draw(x_shape, w_shape))
    x[0, 0, 4, 5] = bad
    y = ops.convolution(x, w, b, *options)
    with kernels.disabled():
        wanted = ops.convolution(x.astype(np.float64), w.astype(np.float64), b.astype(np.float64), *options)
    assert np.array_equal(np.isfinite(y), np.isfinite(wanted))
    assert np.isfinite(y[1:]).all()


@pytest.mark.parametrize("case", ["3x3", "strided", "depthwise"])
def test_inputs_are_left_alone(case, threads):
    x_shape, w_shape, *options = CASES[case]
    arrays = [a.astype(np.float32) for a in draw(x_shape, w_shape)]
    kept = [a.copy() for a in arrays]
    leaves = [Tensor(a, True) for a in arrays]
    first = ops.convolution(*leaves, *options)
    held = first.numpy().copy()
    (first * first).sum().backward()
    ops.convolution(*[t * 2 for t in leaves], *options)
    assert np.array_equal(first.numpy(), held)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, kept))


@pytest.mark.parametrize("size", [(150, 140), (400, 90)], ids=str)
def test_weights_of_one_channel_keep_their_digits_over_large_images(size, threads):
    """Equal numbers, whose sums in float32 alone would lose digits: rows are put away in bands."""
    x, gy = np.full((9, 1, *size), 0.1, np.float32), np.ones((9, 2, *size), np.float32)
    t, w = Tensor(x, True), Tensor(np.zeros((2, 1, 3, 3), np.float32), True)
    (gw,) = grad(ops.convolution(t, w, None, (1, 1), ((1, 1), (1, 1)), (1, 1), 1), w, Tensor(gy))
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    wanted = [[wide[:, 0, p : p + size[0], q : q + size[1]].sum() for q in range(3)] for p in range(3)]
    np.testing.assert_allclose(gw.numpy()[0, 0], wanted, rtol=1e-5)


@pytest.mark.parametrize("place", [(1, 0), (4, 9), (0, 5), (5, 3)], ids=str)
def test_nan_reaches_only_the_weights_that_see_it(place, threads):
    """Without padding, and with odd heights: nothing that lies beside a row, or below the last one, is multiplied."""
    x = np.random.default_rng(0).standard_normal((2, 1, 7, 11)).astype(np.float32)
    x[0, 0][place] = np.nan
    found = []
    for tier in ("all", "text"):
        with kernels.tier(tier):
            t, w = Tensor(x, True), Tensor(np.ones((3, 1, 3, 3), np.float32), True)
            y = ops.convolution(t, w, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1)
            found.append([y.numpy(), *(g.numpy() for g in grad(y, (t, w), Tensor(np.ones(y.shape, np.float32))))])
    for a, b in zip(*found):
        assert np.array_equal(np.isnan(a), np.isnan(b))
