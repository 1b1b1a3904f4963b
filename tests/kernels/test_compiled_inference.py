"""Compiled BatchNorm with given statistics against its text in float64."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives, runs_as_text

from minigrad import Tensor, grad, ops

pytest.importorskip("numba")

SHAPES = [(6, 8, 5, 7), (9, 5, 33), (2, 3, 4, 3, 5), (40, 33), (300, 4), (1, 7), (5, 1, 3, 3), (16, 12, 1, 1)]


def drawn(shape):
    """x, μ, what gives σ² by squaring, γ and β."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + 1, *rng.standard_normal((4, shape[1]))]


def given(x, mean, root, w=None, b=None):
    return ops.batch_norm_inference(x, mean, root * root + 0.5, w, b)


@pytest.mark.parametrize("parameters", [5, 4, 3], ids=["all", "weight alone", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients(shape, parameters, threads, ran):
    compare(given, drawn(shape)[:parameters], 5e-6)
    assert set(ran) == {("columns" if len(shape) == 2 or shape[2:] == (1, 1) else "planes", threads)}


@pytest.mark.parametrize("shape", [(6, 8, 5, 7), (40, 33)], ids=str)
def test_second_order(shape, threads):
    compare(given, drawn(shape), 1e-5, order=2)


@pytest.mark.parametrize("shape", [(6, 8, 5, 7), (40, 33)], ids=str)
@pytest.mark.parametrize("needs", [(True, False, False, False, False), (True, False, False, True, True),
                                   (True, True, False, False, False), (True, False, True, False, False),
                                   (True, True, False, False, True), (False, True, True, True, True)], ids=str)
def test_only_what_is_needed_is_given(shape, needs, threads):
    """What nothing needs is not kept either: x, for one."""
    found = []
    for dtype in (np.float32, np.float64):
        leaves = [Tensor(a.astype(np.float32).astype(dtype), need) for a, need in zip(drawn(shape), needs)]
        y = given(*leaves)
        g = Tensor(np.random.default_rng(9).standard_normal(shape).astype(np.float32).astype(dtype))
        found.append([t.numpy() for t in grad(y, [t for t in leaves if t.requires_grad], g)])
    for a, b in zip(*found):
        assert np.abs(a - b).max() <= 5e-6 * np.abs(b).max()


@pytest.mark.parametrize("shape", [(6, 8, 5, 7), (40, 33)], ids=str)
def test_sums_of_products_beyond_float32(shape, threads):
    x, mean, root, w, b = drawn(shape)
    compare(given, [x * 1e30, mean * 1e30, root, w * 0.01, b], 1e-5, upstream=lambda g: g * g.dtype.type(1e6))


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: a[::-1],
], ids=["Fortran", "every second", "reversed"])
@pytest.mark.parametrize("shape", [(6, 8, 5, 7), (40, 33)], ids=str)
def test_other_layouts(shape, layout, threads):
    compare(given, drawn(shape), 3e-6, layout=layout)
    compare(given, drawn(shape), 3e-6, upstream=layout)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-13)])
def test_other_dtypes_and_nothing_run_as_text(dtype, tolerance, ran):
    runs_as_text(given, drawn((6, 8, 5, 7)), dtype, tolerance)
    assert derivatives(given, [np.zeros((0, 3, 2, 2), np.float32), *np.ones((4, 3), np.float32)])[0].size == 0
    assert not ran


def test_nan_stays_in_its_channel(threads):
    for shape in ((6, 8, 5, 7), (40, 33)):
        arrays = [a.astype(np.float32) for a in drawn(shape)]
        arrays[0][2, 1] = np.nan
        y, gx, gmean, *_ = derivatives(given, arrays)
        assert np.isnan(y[2, 1]).all()
        assert np.isnan(y).sum() == np.isnan(arrays[0]).sum()
        assert np.isfinite(gx).all()
        assert np.isfinite(gmean).all()
