"""New Tensors: dtypes and shapes, whatever kind of number asks for them."""

import numpy as np
import pytest

import minigrad as mg


@pytest.mark.parametrize(("make", "dtype"), [
    (lambda: mg.arange(np.int64(3)), np.int64), (lambda: mg.arange(3.0), np.float32),
    (lambda: mg.arange(0, 1, 0.25), np.float32), (lambda: mg.full(3, np.int32(1)), np.int64),
    (lambda: mg.full(3, np.bool_(1)), np.bool_), (lambda: mg.full((3,), np.float64(1)), np.float32),
    (lambda: mg.zeros(3, dtype=None), np.float32), (lambda: mg.ones((3,), dtype=None), np.float32),
    (lambda: mg.rand(3, dtype=None), np.float32), (lambda: mg.randn(3, dtype=np.float64), np.float64),
    (lambda: mg.randint(0, 2, 3, dtype=None), np.int64), (lambda: mg.eye(3, dtype=None)[0], np.float32),
    (lambda: mg.linspace(0, 1, 3, dtype=None), np.float32), (lambda: mg.empty(3, dtype=np.int8), np.int8),
])
def test_dtypes(make, dtype):
    found = make()
    assert found.dtype == dtype
    assert found.ndim == 1


def test_lengths_may_be_numpy_integers():
    assert mg.zeros(np.int64(3)).shape == mg.ones(np.int8(3)).shape == (3,)
    assert mg.zeros(np.int64(3), 2).shape == (3, 2)
    assert mg.zeros().shape == ()
