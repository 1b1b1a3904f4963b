"""The type for vectors of 16 numbers: what is read, written and added up, and what is not touched."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")


@pytest.fixture(scope="module")
def functions():
    from minigrad.kernels.compiled.simd import (
        fma,
        load,
        relu,
        rsqrt,
        sigmoid,
        splat,
        store,
        total,
        where_positive,
    )

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

    @numba.njit
    def formed(x, y, out):
        v = load(x, 0, 16)
        store(out, 0, relu(v), 16)
        store(out, 16, where_positive(v, load(y, 0, 16)), 16)
        store(out, 32, rsqrt(v), 16)
        store(out, 48, sigmoid(v), 16)

    return copied, computed, summed, formed


@pytest.mark.parametrize("count", range(17))
def test_only_the_first_are_read_and_written(functions, count):
    """The last numbers of an array too: nothing behind them is read."""
    copied, *_ = functions
    x = np.arange(1, 41, dtype=np.float32)
    out = np.full(60, -1, np.float32)
    copied(x[: 5 + count], 5, count, out, 7, 16)
    assert out[7:23].tolist() == [*range(6, 6 + count), *[0] * (16 - count)]
    out[:] = -1
    copied(x, 5, 16, out, 7, count)
    assert out.tolist() == [-1] * 7 + list(range(6, 6 + count)) + [-1] * (53 - count)


@pytest.mark.parametrize("array", [np.ones(40), np.ones(80, np.float32)[::2], np.ones((4, 16), np.float32)],
                         ids=["float64", "every second", "matrix"])
def test_other_arrays_are_refused(functions, array):
    copied, *_ = functions
    with pytest.raises(numba.TypingError):
        copied(array, 0, 16, np.ones(40, np.float32), 0, 16)
    with pytest.raises(numba.TypingError):
        copied(np.ones(40, np.float32), 0, 16, array, 0, 16)


def test_arithmetic(functions):
    _, computed, summed, _ = functions
    a, b, c = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    out = np.empty(64, np.float32)
    computed(a, b, c, out)
    np.testing.assert_array_equal(out[:48].reshape(3, 16), [a + b, a - b, a * b])
    np.testing.assert_allclose(out[48:], a.astype(np.float64) * b + c, rtol=2e-7, atol=2e-7)
    for count in (16, 9, 1, 0):
        got, spread = summed(a, count, np.float32(0.5))
        np.testing.assert_allclose(got, a[:count].astype(np.float64).sum(), rtol=1e-6, atol=1e-6)
        assert spread == 8


def test_functions(functions):
    """Over their ranges, at the kink of ReLU, and where e^(−x) is 0 or infinite."""
    *_, formed = functions
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 87.0, -87.0, 88.0, -88.0, 89.0, -89.0, 1e30, -1e30, 1e-30, -1e-30, 1]
    for x in (np.array(special), *np.random.default_rng(0).standard_normal((20, 16)) * 10):
        x = x.astype(np.float32)
        y, out = np.arange(1, 17, dtype=np.float32), np.empty(64, np.float32)
        y[3] = np.nan
        formed(x, y, out)
        wide = x.astype(np.float64)
        np.testing.assert_array_equal(out[:16], np.maximum(x, 0))
        np.testing.assert_array_equal(out[16:32], np.where(x > 0, y, 0))
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(out[32:48], 1 / np.sqrt(wide), rtol=2e-7)
            np.testing.assert_allclose(out[48:], 1 / (1 + np.exp(-wide)), rtol=3e-7, atol=2e-38)


def test_nan_and_infinities_pass(functions):
    _, computed, summed, _ = functions
    a = np.zeros(16, np.float32)
    a[3], a[5] = np.nan, np.inf
    out = np.empty(64, np.float32)
    computed(a, np.ones(16, np.float32), a, out)
    for row in out.reshape(4, 16):
        assert np.isnan(row[3])
        assert not np.isnan(np.delete(row, 3)).any()
    assert summed(a, 3, np.float32(0))[0] == 0
    assert np.isnan(summed(a, 4, np.float32(0))[0])
