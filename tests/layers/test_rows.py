"""Every function and layer: derivatives against differences, precision in float32 and float16, memory layouts."""

import cases
import layer_cases
import numpy as np
import pytest
from layer_cases import FUNCTIONS, LAYERS, NOT_LAYERS, ROWS, gradients

from minigrad import Tensor, layers
from minigrad import functional as F
from minigrad.gradcheck import check_gradients

every_row = pytest.mark.parametrize("row", ROWS, ids=str)
#: Of results and of gradients; in half precision, gradients are sums of rounded terms.
TOLERANCE = {np.float32: (2e-6, 1e-5), np.float16: (4e-3, 1.2e-2)}
LAYOUTS = {"column by column": np.asfortranarray, "reversed": lambda a: np.flip(np.flip(a).copy())}


def test_every_function_and_layer_has_a_row():
    kinds = {n for n in layers.__all__ if isinstance(getattr(layers, n), type)
             and issubclass(getattr(layers, n), layers.Module)}
    assert {row.name for row in FUNCTIONS} == set(F.__all__)
    assert {row.name for row in LAYERS} == kinds - NOT_LAYERS


@every_row
def test_derivatives(row):
    call, arrays = row.pure()
    if row.order:
        assert len(check_gradients(call, tuple(arrays), row.order, rtol=1e-6)) == row.order


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@every_row
def test_precision(row, dtype):
    """Against float64 on the same, rounded values: results, and gradients by inputs and parameters."""
    call, arrays = row.pure(dtype)
    before = [a.copy() for a in arrays]
    exact, wide = row.pure()[0], [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    for found, wanted, tolerance in ((call(*map(Tensor, arrays)), exact(*map(Tensor, wide)), TOLERANCE[dtype][0]),
                                     (gradients(call, arrays), gradients(exact, wide), TOLERANCE[dtype][1])):
        assert [y.dtype for y in found] == [dtype] * len(wanted)
        for y, z in zip(found, wanted, strict=True):
            assert cases.relative(np.asarray(y), np.asarray(z)) < tolerance
    for a, b in zip(arrays, before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layout", LAYOUTS)
@every_row
def test_layouts(row, layout):
    call, arrays = row.pure()
    given = [LAYOUTS[layout](a) if a.ndim else a for a in arrays]
    for found, wanted in ((call(*map(Tensor, given)), call(*map(Tensor, arrays))),
                          (gradients(call, given), gradients(call, arrays))):
        for y, z in zip(found, wanted, strict=True):
            assert cases.relative(np.asarray(y), np.asarray(z)) < 1e-12


def test_the_rows_tell_a_wrong_gradient():
    row = layer_cases.Row("Linear", [cases.normal(3, 4)], (4, 5))
    call, arrays = row.pure()
    with pytest.raises(Exception, match="order 1, input 0"):
        check_gradients(lambda *xs: [y + xs[0].detach().sum() for y in call(*xs)], tuple(arrays), 1)
