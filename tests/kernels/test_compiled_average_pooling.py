"""Compiled average pooling against its text in float64, and against means written out."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives

import minigrad.functional as F
from minigrad import Tensor, grad, kernels

pytest.importorskip("numba")

OPTIONS = [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (3, 2), "stride": (1, 2)},
    {"kernel_size": 2, "stride": 3}, {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}, {"kernel_size": 5, "stride": 4},
    {"kernel_size": 4, "stride": 4, "padding": 2}, {"kernel_size": (1, 3), "stride": 1, "padding": (0, 1)},
    {"kernel_size": 1}, {"kernel_size": 7}, {"kernel_size": 3, "divisor_override": 5},
    {"kernel_size": (4, 3), "stride": (2, 3), "padding": (2, 1), "ceil_mode": True, "count_include_pad": False},
]


@pytest.mark.parametrize("size", [(9, 8), (7, 7), (13, 21)], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients(options, size, threads, ran):
    x = np.random.default_rng(0).standard_normal((3, 4, *size))
    compare(lambda t: F.avg_pool2d(t, **options), [x], 1e-6)
    assert set(ran) == {("sum_pool", threads), ("spread", threads)}


@pytest.mark.parametrize("options", OPTIONS[:6], ids=str)
def test_second_order(options, threads):
    x = np.random.default_rng(0).standard_normal((3, 2, 9, 8))
    compare(lambda t: F.avg_pool2d(t, **options), [x], 1e-6, order=2)


@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                     {"kernel_size": 5, "stride": 1, "padding": 2}], ids=str)
def test_over_one_axis(options, threads, ran):
    compare(lambda t: F.avg_pool1d(t, **options), [np.random.default_rng(0).standard_normal((3, 2, 37))], 1e-6)
    assert {name for name, _ in ran} == {"sum_pool", "spread"}


def test_float64_has_loops_too(ran):
    x = np.random.default_rng(0).standard_normal((3, 4, 9, 8))
    compare(lambda t: F.avg_pool2d(t, 3, 2, 1), [x], 1e-14, dtype=np.float64)
    assert {name for name, _ in ran} == {"sum_pool", "spread"}


def test_written_out(threads):
    """Means of windows of 2 × 2, and each gradient's quarter at every place of its window, 0 in what is left over."""
    x = np.arange(15, dtype=np.float32).reshape(1, 1, 3, 5)
    t = Tensor(x, True)
    y = F.avg_pool2d(t, 2)
    assert y.numpy().tolist() == [[[[3, 5]]]]
    (g,) = grad(y, t, Tensor(np.array([[[[4, 8]]]], np.float32)))
    assert g.numpy()[0, 0].tolist() == [[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [0, 0, 0, 0, 0]]


def test_nan_and_infinities_stay_under_their_windows(threads):
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 8)).astype(np.float32)
    x[0, 0, 4, 3], x[1, 1, 2, 2], x[1, 2, 0, 0] = np.nan, -np.inf, np.inf
    for options in OPTIONS:
        got = F.avg_pool2d(Tensor(x), **options).numpy()
        with kernels.disabled():
            wanted = F.avg_pool2d(Tensor(x), **options).numpy()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1], lambda a: a.swapaxes(2, 3),
], ids=["Fortran", "every second", "reversed", "turned"])
def test_other_layouts(layout, threads):
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8))
    compare(lambda t: F.avg_pool2d(t, 2), [x], 1e-6, layout=layout)
    compare(lambda t: F.avg_pool2d(t, 2), [x], 1e-6, upstream=layout)


@pytest.mark.parametrize("dtype", [">f4", np.longdouble])
def test_other_dtypes_run_as_text(dtype, ran):
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(dtype)
    np.testing.assert_allclose(F.avg_pool2d(x, 2), x.reshape(3, 4, 4, 2, 4, 2).mean((3, 5)), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(F.max_pool2d(x, 2), x.reshape(3, 4, 4, 2, 4, 2).max((3, 5)))
    assert not ran


def test_half_types_and_nothing(ran):
    """Half types are summed in float32, by the same loops."""
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(np.float16)
    y, gx = derivatives(lambda t: F.avg_pool2d(t, 2), [x])
    assert y.dtype == gx.dtype == np.float16
    np.testing.assert_allclose(y, x.astype(np.float64).reshape(3, 4, 4, 2, 4, 2).mean((3, 5)), rtol=0, atol=1e-3)
    assert {name for name, _ in ran} == {"sum_pool", "spread"}
    ran.clear()
    assert derivatives(lambda t: F.avg_pool2d(t, 2), [np.zeros((0, 3, 4, 4), np.float32)])[0].shape == (0, 3, 2, 2)
    assert not ran
