"""Compiled local response normalization against its text in float64, and one case written out."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives, runs_as_text

from minigrad import Tensor, grad, kernels, ops

pytest.importorskip("numba")

SHAPES = [(3, 7, 5, 9), (4, 6), (2, 5, 1100), (2, 3, 2, 3, 4), (1, 1, 4)]


def function(size=5, alpha=0.3, beta=0.75, k=1.3):
    return lambda x: ops.local_response_norm(x, size, alpha, beta, k)


def draw(shape):
    return [np.random.default_rng(0).standard_normal(shape) * 2]


@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, size, beta, threads, ran):
    compare(function(size, beta=beta), draw(shape), 3e-6)
    assert set(ran) == {("channels", threads)}


def test_second_order(threads):
    compare(function(3), draw((6, 9)), 1e-5, order=2)


def test_written_out(threads):
    """Windows of four: two channels before, one behind."""
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 5)
    windows = np.array([[1, 2], [1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5]], object)
    wanted = [v / (2 + 0.5 * sum(n * n for n in w) / 4) ** 0.75 for v, w in zip(x[0], windows)]
    np.testing.assert_allclose(ops.local_response_norm(x, 4, 0.5, 0.75, 2.0)[0], wanted, rtol=1e-6)


def test_squares_that_overflow_are_left_to_the_text():
    x = np.full((2, 3, 4), 1e25, np.float32)
    with kernels.disabled():
        wanted = function()(x)
    assert np.array_equal(function()(x), wanted)
    assert wanted.all()


def test_powers_without_roots_run_as_text(ran):
    compare(function(beta=0.6), draw((3, 7, 5, 9)), 3e-6)
    assert not ran


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-13)])
def test_other_dtypes_and_nothing_run_as_text(dtype, tolerance, ran):
    runs_as_text(function(), draw((3, 7, 5, 9)), dtype, tolerance)
    assert derivatives(function(), [np.zeros((0, 3, 2), np.float32)])[0].size == 0
    assert not ran


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1],
], ids=["Fortran", "every second", "reversed"])
def test_other_layouts(layout, threads):
    compare(function(), draw((3, 7, 5, 9)), 3e-6, layout=layout)
    compare(function(), draw((3, 7, 5, 9)), 3e-6, upstream=layout)


def test_nan_stays_in_its_windows(threads):
    x = draw((2, 7, 3))[0].astype(np.float32)
    x[0, 3, 1] = np.nan
    found = []
    for tier in ("all", "text"):
        with kernels.tier(tier):
            t = Tensor(x, True)
            y = function(3)(t)
            found.append([y.numpy(), grad(y, t, Tensor(np.ones_like(x)))[0].numpy()])
    for a, b in zip(*found):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert 0 < np.isnan(a).sum() <= 5
