"""Products for recorded steps: every layout and batching against NumPy, through a cuBLAS played by NumPy."""

import itertools

import cupy_on_numpy
import numpy as np
import pytest

from minigrad.errors import DeviceError, DtypeError
from minigrad.kernels.cuda.blas import Blas

RNG = np.random.default_rng(0)


@pytest.fixture
def made(monkeypatch):
    with cupy_on_numpy.installed(monkeypatch):
        import cupy

        blas = Blas(7)
        yield cupy, blas
        blas.close()


#: Ways in which a matrix may lie, as functions of a contiguous one.
LAYOUTS = {
    "rows": lambda xp, x: xp.asarray(np.ascontiguousarray(x)),
    "columns": lambda xp, x: xp.asarray(np.ascontiguousarray(x.swapaxes(-1, -2))).transpose(
        *range(x.ndim - 2), x.ndim - 1, x.ndim - 2),
    "cut": lambda xp, x: xp.asarray(np.concatenate([x, x], -1))[..., : x.shape[-1]],
    "every other": lambda xp, x: xp.asarray(np.repeat(x, 2, -1))[..., ::2],
}
SHAPES = [((5, 4), (4, 3)), ((1, 4), (4, 1)), ((5, 1), (1, 3)), ((2, 5, 4), (4, 3)), ((2, 5, 4), (2, 4, 3)),
          ((5, 4), (2, 4, 3)), ((2, 1, 5, 4), (3, 4, 2)), ((2, 3, 5, 4), (2, 3, 4, 2)), ((1, 5, 4), (3, 4, 2)),
          ((0, 4), (4, 3)), ((5, 0), (0, 3)), ((2, 5, 4), (1, 4, 3)), ((1, 1), (1, 1))]


@pytest.mark.parametrize("layouts", list(itertools.product(LAYOUTS, repeat=2)), ids="-".join)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_layouts_and_batches(made, shapes, layouts):
    xp, blas = made
    a, b = (RNG.standard_normal(shape) for shape in shapes)
    found = blas.matmul(LAYOUTS[layouts[0]](xp, a), LAYOUTS[layouts[1]](xp, b))
    wanted = a @ b
    assert found.shape == wanted.shape
    assert found.dtype == np.float64
    assert np.allclose(found.get(), wanted, rtol=1e-12, atol=1e-12)


def test_types(made):
    xp, blas = made
    for one, two, dtype in ((np.float16, np.float16, np.float16), (np.float32, np.float16, np.float32),
                            (np.float32, np.float64, np.float64)):
        a, b = RNG.standard_normal((3, 4)).astype(one), RNG.standard_normal((4, 2)).astype(two)
        found = blas.matmul(xp.asarray(a), xp.asarray(b))
        assert found.dtype == dtype
        assert np.allclose(found.get(), (a.astype(np.float64) @ b), rtol=1e-2 if dtype is np.float16 else 1e-5)
    with pytest.raises(DtypeError, match="int64 and int64 in a step"):
        blas.matmul(xp.asarray(np.ones((2, 2), np.int64)), xp.asarray(np.ones((2, 2), np.int64)))
    with pytest.raises(ValueError, match="inner lengths"):
        blas.matmul(xp.asarray(np.ones((2, 3))), xp.asarray(np.ones((2, 3))))


def test_an_error_of_the_library_is_told(made, monkeypatch):
    xp, blas = made
    monkeypatch.setattr(blas._library, "cublasGemmStridedBatchedEx", lambda *arguments: 13)
    with pytest.raises(DeviceError, match="cublasGemmStridedBatchedEx: got status 13"):
        blas.matmul(xp.asarray(np.ones((2, 3))), xp.asarray(np.ones((3, 2))))
