"""Compiled softmax and its logarithm against their texts in float64."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives

from minigrad import kernels, ops

pytest.importorskip("numba")

FUNCTIONS = {"softmax": ops.softmax, "log_softmax": ops.log_softmax}
SHAPES = [(7, 10), (3, 4, 33), (500, 3), (1, 300), (9,), (6, 1)]


def draw(shape, scale=3.0):
    return [np.random.default_rng(0).standard_normal(shape) * scale]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, shape, threads, ran):
    compare(FUNCTIONS[name], draw(shape), 1e-6)
    assert set(ran) == {(name, threads and shape[-1] < np.prod(shape))}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_order(name, threads):
    compare(FUNCTIONS[name], draw((5, 7)), 3e-6, order=2)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_far_apart_and_shifted(name, threads):
    """Rows of values so far apart that all but one vanish; a shift by 10⁴ changes nothing but rounding."""
    far = draw((40, 12), 60.0)[0].astype(np.float32)
    with kernels.disabled():
        wanted = FUNCTIONS[name](far.astype(np.float64))
    np.testing.assert_allclose(FUNCTIONS[name](far), wanted, rtol=1e-6, atol=1e-7)
    rounded = np.round(draw((40, 12))[0] * 8) / 8
    y = FUNCTIONS[name](rounded.astype(np.float32))
    np.testing.assert_array_equal(FUNCTIONS[name]((rounded + 1e4).astype(np.float32)), y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_long_rows_keep_their_digits(name, threads):
    """A million equal scores beside one: float32 alone would lose three digits of their sum."""
    x = np.full((2, 10**6), -1.5, np.float32)
    x[:, 0] = 0
    compare(FUNCTIONS[name], [x], 1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite(name, threads):
    rows = [[1, np.nan, 2], [np.inf, 1, 2], [-np.inf, 1, 2], [-np.inf, -np.inf, -np.inf], [np.nan, np.nan, np.nan],
            [np.nan, 1, np.inf], [3e38, -3e38, 0]]
    x = np.array(rows, np.float32)
    with np.errstate(all="ignore"):
        got = derivatives(FUNCTIONS[name], [x])
        with kernels.disabled():
            wanted = derivatives(FUNCTIONS[name], [x])
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_axes_dtypes_and_nothing_run_as_text(name, ran):
    compare(lambda x: FUNCTIONS[name](x, 0), draw((5, 6)), 1e-6)
    for dtype in (np.float16, np.float64):
        arrays = [a.astype(dtype) for a in draw((5, 6))]
        with kernels.disabled():
            text = derivatives(FUNCTIONS[name], arrays)
        assert all(np.array_equal(a, b) for a, b in zip(derivatives(FUNCTIONS[name], arrays), text))
    assert derivatives(FUNCTIONS[name], [np.zeros((0, 4), np.float32)])[0].shape == (0, 4)
    assert not ran


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1],
], ids=["Fortran", "every second", "reversed"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_other_layouts(name, layout, threads):
    compare(FUNCTIONS[name], draw((7, 10)), 1e-6, layout=layout)
    compare(FUNCTIONS[name], draw((7, 10)), 1e-6, upstream=layout)
