"""Compiled max pooling against its text."""

import math

import numpy as np
import pytest

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops
from minigrad.kernels.compiled import loading

pytest.importorskip("numba")

OPTIONS = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (3, 2), "stride": (1, 2)},
    {"kernel_size": 2, "stride": 3}, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "dilation": 2, "stride": 1}, {"kernel_size": (1, 3), "stride": 1, "padding": (0, 1)},
]


pytestmark = pytest.mark.usefixtures("threads")


def both(function, *arrays):
    """What a function and its gradients give with kernels and without."""
    found = []
    for tier in ("all", "text"):
        with kernels.tier(tier):
            tensors = [Tensor(a, a.dtype.kind == "f") for a in arrays]
            outs = function(*tensors)
            outs = outs if isinstance(outs, tuple) else (outs,)
            g = Tensor(np.random.default_rng(1).standard_normal(outs[0].shape).astype(outs[0].dtype))
            grads = grad(outs[0], [t for t in tensors if t.requires_grad], g)
            found.append([t.numpy() for t in (*outs, *grads)])
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_max_pool(options, dtype):
    x = np.random.default_rng(0).integers(-3, 4, (3, 2, 9, 8)).astype(dtype)  # many ties
    x[0, 0, 4, 3], x[1, 1, 2, 2], x[2, 0, 0, 0] = np.nan, -np.inf, np.inf
    fast, text = both(lambda t: F.max_pool2d(t, return_indices=True, **options), x)
    for a, b in zip(fast[:2], text[:2]):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
    # Where windows overlap, their gradients are added in another order.
    np.testing.assert_allclose(fast[2], text[2], rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                     {"kernel_size": 4, "stride": 1, "dilation": 2}], ids=str)
def test_over_one_axis(options, threads, ran):
    x = np.random.default_rng(0).integers(-3, 4, (3, 2, 37)).astype(np.float32)
    fast, text = both(lambda t: F.max_pool1d(t, return_indices=True, **options), x)
    for a, b in zip(fast, text):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert {parallel for _, parallel in ran} == {threads}
    assert len(ran) == 2


def test_three_axes_run_as_text(ran):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7, 8)).astype(np.float32)
    for function in (F.max_pool3d, F.avg_pool3d):
        fast, text = both(lambda t, function=function: function(t, 2), x)
        for a, b in zip(fast, text):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert not {name for name, _ in ran}


def test_other_layouts_and_dtypes_run_as_text():
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8))
    for view in (x[:, ::2], x.swapaxes(2, 3), x.astype(np.float16), np.asfortranarray(x)):
        fast, text = both(lambda t: ops.relu(F.max_pool2d(t, 2)), view)
        assert all(np.array_equal(a, b) for a, b in zip(fast, text))


def test_empty():
    fast, text = both(lambda t: ops.relu(F.max_pool2d(t, 2)), np.zeros((0, 3, 4, 4), np.float32))
    assert all(a.shape == b.shape for a, b in zip(fast, text))


#: Windows that lie on the input and are small: their loops are compiled for just this kernel and stride.
INSIDE = [((2, 2), (2, 2)), ((3, 3), (3, 3)), ((3, 3), (2, 2)), ((2, 3), (3, 2)), ((1, 2), (1, 2)), ((3, 2), (1, 1)),
          ((1, 1), (2, 2)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(9, 8), (7, 7), (3, 3), (10, 3), (4, 11), (5, 37), (3, 70)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), INSIDE, ids=str)
def test_windows_that_lie_inside(kernel, stride, size, dtype, threads, ran):
    """Odd sizes, whose rest is in no window; ties, of which the first wins; NaN, the largest of all; infinities."""
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (3, 2, *size)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[0, 0] = -np.inf
    x[1, 0, 0, :2], x[1, 1, 1, 1:3], x[2, 0, :2, 0] = np.nan, np.inf, (np.nan, np.inf)
    fast, text = both(lambda t: F.max_pool2d(t, kernel, stride, return_indices=True), x)
    for a, b in zip(fast[:2], text[:2]):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
    np.testing.assert_allclose(fast[2], text[2], rtol=0, atol=8 * np.finfo(dtype).eps)
    assert ran == [("max_pool_inside", threads), ("scatter_apart" if kernel == stride else "scatter", threads)]


def test_the_chosen_place_of_every_window():
    """Written out: the first of equal elements, NaN before infinity, and the first NaN of several."""
    nan, inf = np.nan, np.inf
    x = np.array([[1, 1, nan, inf, -inf, -inf, 9], [1, 1, inf, nan, -inf, -inf, 9], [9, 9, 9, 9, 9, 9, 9]], np.float32)
    y, places = F.max_pool2d(Tensor(x[None, None], True), 2, return_indices=True)
    assert np.array_equal(y.numpy()[0, 0], [[1, nan, -inf]], equal_nan=True)
    assert places.numpy()[0, 0].tolist() == [[0, 2, 4]]
    t = Tensor(x[None, None], True)
    (g,) = grad(F.max_pool2d(t, 2), t, Tensor(np.array([[[[5, inf, nan]]]], np.float32)))
    wanted = np.zeros((3, 7), np.float32)
    wanted[0, [0, 2, 4]] = 5, inf, nan  # and nothing of them anywhere else, the rest of odd sizes included
    assert np.array_equal(g.numpy()[0, 0], wanted, equal_nan=True)


def test_gradients_of_overlapping_windows_add_up():
    """One large element in the middle of four windows of 3×3 at stride 2 receives all four gradients."""
    x = np.zeros((1, 1, 5, 5), np.float32)
    x[0, 0, 2, 2] = 7
    t = Tensor(x, True)
    (g,) = grad(F.max_pool2d(t, 3, 2), t, Tensor(np.array([[[[1, 2], [4, 8]]]], np.float32)))
    assert g.numpy()[0, 0, 2, 2] == 15
    assert np.count_nonzero(g.numpy()) == 1


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2}], ids=str)
def test_gradients_in_other_layouts(options, ran):
    x = np.random.default_rng(0).standard_normal((3, 4, 9, 7)).astype(np.float32)
    for function in (lambda t: ops.sum(F.max_pool2d(t, **options), (2, 3)),
                     lambda t: ops.permute_dims(F.max_pool2d(t, **options), (0, 2, 3, 1))):
        fast, text = both(function, x)
        for a, b in zip(fast, text):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    assert "max_pool_inside" in {name for name, _ in ran}


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("planes", [1, 3, 9])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (4, 70)], ids=str)
def test_nothing_is_written_outside(size, planes, lanes, threads):
    """What a row writes past its end belongs to the next row, and at the end of a thread's share to nobody."""
    room = 40

    def guarded(shape, dtype):
        whole = np.full(math.prod(shape) + 2 * room, 7, dtype)
        return whole, whole[room:-room].reshape(shape)

    high, wide = size[0] // 2, size[1] // 2
    x = np.random.default_rng(0).standard_normal((planes, *size)).astype(np.float32)
    (ys, y), (places, which) = guarded((planes, high, wide), np.float32), guarded((planes, high, wide), np.int32)
    outs, out = guarded(x.shape, np.float32)
    loading.loops("pooling_loops", "max_pool_inside", threads, 2, 2, 2, 2, lanes)(x, y, which)
    windows = x[:, : 2 * high, : 2 * wide].reshape(planes, high, 2, wide, 2).swapaxes(2, 3)
    np.testing.assert_array_equal(y, windows.max((3, 4)))
    np.testing.assert_array_equal(which, windows.reshape(planes, high, wide, 4).argmax(3))
    loading.loops("pooling_loops", "scatter_apart", threads, 2, 2, lanes)(y, which, out)
    wanted = np.zeros_like(x)
    chosen = np.arange(4) == which[..., None]
    wanted[:, : 2 * high, : 2 * wide] = np.where(chosen, y[..., None], 0).reshape(planes, high, wide, 2, 2).swapaxes(
        2, 3).reshape(planes, 2 * high, 2 * wide)
    np.testing.assert_array_equal(out, wanted)
    for whole in (ys, places, outs):
        assert (whole[:room] == 7).all()
        assert (whole[-room:] == 7).all()
