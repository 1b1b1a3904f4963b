"""Compiled sums and means over the last axes against NumPy in float64."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives

from minigrad import kernels, ops

pytest.importorskip("numba")

#: A shape, and the axes that are summed.
CASES = [((7, 10), (1,)), ((3, 4, 33), (1, 2)), ((3, 4, 5), (0, 1, 2)), ((500, 3), (-1,)), ((9,), (0,)), ((6, 1), (1,)),
         ((2, 9000), (1,)), ((40000,), None), ((20, 3, 4, 5), (3, 2))]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
@pytest.mark.parametrize("function", [ops.sum, ops.mean], ids=["sum", "mean"])
def test_values_and_gradients(function, shape, axes, keepdims, threads, ran):
    x = np.random.default_rng(0).standard_normal(shape) + 1
    compare(lambda t: function(t, axes, keepdims), [x], 3e-7)
    assert ran == [("row_sums", threads)]


@pytest.mark.parametrize("length", [10**6, 3 * 10**6 + 7])
def test_long_rows_keep_their_digits(length, threads):
    """A million numbers of one sign: float32 alone would lose three digits."""
    x = np.random.default_rng(0).random((2, length)).astype(np.float32)
    wanted = x.astype(np.float64).sum(1)
    np.testing.assert_allclose(ops.sum(x, 1), wanted, rtol=1e-7)
    np.testing.assert_allclose(ops.mean(x, 1), wanted / length, rtol=1e-7)


def test_what_is_not_finite(threads):
    x = np.array([[1, np.nan, 2], [np.inf, 1, 2], [-np.inf, 1, np.inf], [3e38, 3e38, 3e38]], np.float32)
    np.testing.assert_array_equal(ops.sum(x, 1), [np.nan, np.inf, np.nan, np.inf])


def test_other_axes_dtypes_layouts_and_nothing_run_as_text(ran):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 6, 7))
    compare(lambda t: ops.sum(t, 0), [x], 1e-6)
    compare(lambda t: ops.mean(t, (0, 2)), [x], 1e-6)
    for layout in (np.asfortranarray, lambda a: a[:, ::2], lambda a: a[..., ::-1]):
        compare(lambda t: ops.sum(t, 2), [x], 1e-6, layout=layout)
    for given in (x, x.astype(np.float16), np.arange(6).reshape(2, 3)):
        with kernels.disabled():
            wanted = ops.sum(given, -1)
        got = ops.sum(given, -1)
        assert got.dtype == wanted.dtype
        assert np.array_equal(got, wanted)
    assert derivatives(lambda t: ops.sum(t, 1), [np.zeros((4, 0), np.float32)])[0].tolist() == [0, 0, 0, 0]
    assert ops.sum(np.zeros((0, 4), np.float32), 1).shape == (0,)
    assert ops.sum(np.float32(3.0)) == 3
    assert not ran


def test_threads_do_not_change_a_bit(monkeypatch):
    from minigrad.kernels.compiled import loading

    x = np.random.default_rng(0).standard_normal((40, 7000)).astype(np.float32)
    found = []
    for least in (0, 2**62):
        monkeypatch.setattr(loading, "PARALLEL_FROM", least)
        found.append(ops.sum(x, 1))
    assert np.array_equal(*found)
