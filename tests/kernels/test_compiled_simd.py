"""The type for vectors of 16 numbers: what is read, written and added up, and what is not touched."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")


@pytest.fixture(scope="module")
def functions():
    from minigrad.kernels.compiled.simd import fma, load, splat, store, total

    @numba.njit
    def copied(x, i, count, out, j, room):
        store(out, j, load(x, i, count), room)

    @numba.njit
    def computed(a, b, c, out):
        x, y, z = load(a, 0, 16), load(b, 0, 16), load(c, 0, 16)
        store(out, 0, x + y, 16)
        store(out, 16, x - y, 16)
        store(out, 32, x * y, 16)
        store(out, 48, fma(x, y, z), 16)

    @numba.njit
    def summed(x, count, number):
        return total(load(x, 0, count)), total(splat(number))

    return copied, computed, summed


@pytest.mark.parametrize("count", range(17))
def test_only_the_first_are_read_and_written(functions, count):
    """The last numbers of an array too: nothing behind them is read."""
    copied, _, _ = functions
    x = np.arange(1, 41, dtype=np.float32)
    out = np.full(60, -1, np.float32)
    copied(x[: 5 + count], 5, count, out, 7, 16)
    assert out[7:23].tolist() == [*range(6, 6 + count), *[0] * (16 - count)]
    out[:] = -1
    copied(x, 5, 16, out, 7, count)
    assert out.tolist() == [-1] * 7 + list(range(6, 6 + count)) + [-1] * (53 - count)


def test_arithmetic(functions):
    _, computed, summed = functions
    a, b, c = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    out = np.empty(64, np.float32)
    computed(a, b, c, out)
    np.testing.assert_array_equal(out[:48].reshape(3, 16), [a + b, a - b, a * b])
    np.testing.assert_allclose(out[48:], a.astype(np.float64) * b + c, rtol=2e-7, atol=2e-7)
    for count in (16, 9, 1, 0):
        got, spread = summed(a, count, np.float32(0.5))
        np.testing.assert_allclose(got, a[:count].astype(np.float64).sum(), rtol=1e-6, atol=1e-6)
        assert spread == 8


def test_nan_and_infinities_pass(functions):
    _, computed, summed = functions
    a = np.zeros(16, np.float32)
    a[3], a[5] = np.nan, np.inf
    out = np.empty(64, np.float32)
    computed(a, np.ones(16, np.float32), a, out)
    for row in out.reshape(4, 16):
        assert np.isnan(row[3])
        assert not np.isnan(np.delete(row, 3)).any()
    assert summed(a, 3, np.float32(0))[0] == 0
    assert np.isnan(summed(a, 4, np.float32(0))[0])
