"""Compiled cross-entropy against its text in float64, and the exponential that its loops use."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops
from minigrad.errors import ArgumentError
from minigrad.ops.loss import ClassCoefficients

numba = pytest.importorskip("numba")


def scores(rows, classes, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    q = rng.random((rows, classes))
    return rng.standard_normal((rows, classes)) * scale, q / q.sum(1, keepdims=True)


def run(x, q, reduce):
    """The losses and the gradient of the scores, for each row with a weight of its own."""
    t = Tensor(x, True)
    y = ops.cross_entropy(t, q, reduce)
    g = Tensor(np.linspace(0.5, 2, y.size).reshape(y.shape).astype(y.dtype))
    return y.numpy(), grad(y, t, g)[0].numpy()


def close(x, q, reduce, tolerance=1e-6):
    """Both, against the text in float64."""
    x, q = np.asarray(x, np.float32), np.asarray(q, np.float32)
    with kernels.disabled():
        wanted = run(x.astype(np.float64), q.astype(np.float64), reduce)
    got = run(x, q, reduce)
    for a, b in zip(got, wanted):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b[np.isfinite(b)]).max(initial=1e-30))
    return got


@pytest.mark.parametrize("reduce", [True, False])
@pytest.mark.parametrize("shape", [(64, 10), (7, 1), (1, 5), (1, 1), (3, 1000), (300, 33)], ids=str)
def test_values_and_gradients(shape, reduce, threads, ran):
    close(*scores(*shape), reduce)
    assert ran == [("cross_entropy", threads)] * 2


@pytest.mark.parametrize("reduce", [True, False])
def test_targets_that_are_not_distributions(reduce, threads):
    """Zeros, rows of zeros, negative coefficients, sums other than 1."""
    x, q = scores(6, 8)
    q[0, :7], q[1], q[2, 3], q[3] = 0, 0, -0.25, q[3] * 40
    close(x, q, reduce)


@pytest.mark.parametrize("shift", [0, 1e4, -1e4])
@pytest.mark.parametrize("scale", [30, 1e4, 1e30])
def test_large_scores(scale, shift, threads):
    x, q = scores(20, 12, scale)
    close(x + shift, q, False)
    close(x + shift, np.eye(12)[np.arange(20) % 12], True)


def test_classes_that_are_ruled_out(threads):
    """−∞ with a coefficient of 0 costs nothing, and its gradient is exactly 0; with another the cost is infinite."""
    x, q = scores(5, 7)
    x[:, 2], q[:, 2] = -np.inf, 0
    x[1, :6], q[1, :6] = -np.inf, 0
    y, gx = close(x, q, False)
    assert np.isfinite(y).all()
    assert not gx[:, 2].any()
    q[0, 2] = 0.5
    y, gx = run(x.astype(np.float32), q.astype(np.float32), False)
    assert y[0] == np.inf
    assert np.isfinite(y[1:]).all()
    assert np.isfinite(gx).all()


def test_far_behind_is_zero_and_not_denormal(threads):
    """Denormal gradients would slow down all products of matrices that follow."""
    x = np.array([[0, -200, -1e4, -1e30]], np.float32)
    gx = run(x, np.eye(4, dtype=np.float32)[:1], True)[1]
    assert not gx[0, 1:].any()


@pytest.mark.parametrize("bad", [[np.nan], [np.inf], [np.nan, np.inf], [np.inf, np.inf]], ids=str)
@pytest.mark.parametrize("place", [0, 3])
def test_bad_rows_stay_alone(bad, place, threads):
    x, q = (a.astype(np.float32) for a in scores(5, 9))
    good = run(x, q, False)
    x[2, place : place + len(bad)] = bad
    y, gx = run(x, q, False)
    assert np.isnan(y).tolist() == [False, False, True, False, False]
    assert np.isnan(gx[2]).any()
    for a, b in zip((y, gx), good):
        assert np.array_equal(np.delete(a, 2, 0), np.delete(b, 2, 0))
    q[2, place : place + len(bad)] = 0
    assert np.isnan(run(x, q, True)[0])


def test_a_row_without_any_possible_class(threads):
    x, q = (a.astype(np.float32) for a in scores(3, 4))
    x[1] = -np.inf
    y, gx = run(x, q, False)
    assert np.isnan(y).tolist() == [False, True, False]
    assert np.isnan(gx).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize("options", [
    {}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 2},
    {"weight": [0.5, 2, 0, 1, 3], "label_smoothing": 0.3}, {"weight": [0.5, 2, 0, 1, 3], "reduction": "none"},
], ids=str)
def test_functional(options, threads, ran):
    target = np.arange(11) % 5
    if "weight" in options:
        options = {**options, "weight": np.array(options["weight"], np.float32)}
    compare(lambda x: F.cross_entropy(x, target, **options), scores(11, 5, 3)[:1], 1e-6)
    assert ("cross_entropy", threads) in ran


def test_gradients_of_a_target_and_second_order(threads):
    """Where the target needs a gradient, and where the gradient is differentiated, the text has to do it."""
    compare(lambda x, q: ops.cross_entropy(x, q, False), scores(6, 5), 1e-5, order=2)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2], lambda a: a[::-1]],
                         ids=["Fortran", "every second", "reversed"])
def test_other_layouts(layout, threads, ran):
    compare(lambda x, q: ops.cross_entropy(x, q, True), scores(6, 5), 1e-6, layout=layout)
    assert not ran


def test_gradients_that_are_spread_over_rows(threads):
    x, q = (a.astype(np.float32) for a in scores(6, 5))
    compare(lambda t: ops.sum(ops.cross_entropy(t, q.astype(t.dtype), False)), [x], 1e-6)


def test_other_dtypes_axes_and_empty_batches_run_as_text(ran):
    x, q = scores(6, 5)
    for dtype in (np.float16, np.float64):
        given = [x.astype(dtype), q.astype(dtype)]
        with kernels.disabled():
            wanted = run(*given, False)
        assert all(np.array_equal(a, b) for a, b in zip(run(*given, False), wanted))
    four = np.random.default_rng(0).standard_normal((2, 3, 4))
    compare(lambda t: ops.cross_entropy(t, np.full((2, 3, 4), 0.5, t.dtype), True), [four], 1e-6)
    nothing = np.zeros((0, 5), np.float32)
    y, gx = derivatives(lambda t: ops.cross_entropy(t, nothing, True), [nothing])
    assert y == 0
    assert gx.shape == (0, 5)
    assert "cross_entropy" not in {name for name, _ in ran}


@pytest.fixture(scope="module")
def exponential():
    """exp32 over an array, in a loop."""
    from minigrad.kernels.compiled.elementary import exp32

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def run(x, out):
        for i in range(x.shape[0]):
            out[i] = exp32(x[i])

    def of(x):
        x = np.asarray(x, np.float32)
        out = np.empty_like(x)
        run(x, out)
        return out

    return of


def test_exponential_is_accurate(exponential):
    x = np.concatenate([np.linspace(-87, 88, 500_001), np.linspace(-1, 1, 100_001), np.geomspace(1e-30, 1e-3, 1001)])
    x = x.astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.abs(exponential(x) / exact - 1).max() <= 2e-7


def test_exponential_beyond_its_range(exponential):
    found = exponential([np.nan, np.inf, -np.inf, 0, -0.0, 1e30, -1e30, 89, -104, 88.3])
    assert np.isnan(found[0])
    assert found[1:9].tolist() == [np.inf, 0, 1, 1, np.inf, 0, np.inf, 0]
    assert abs(found[9] / np.exp(np.float64(np.float32(88.3))) - 1) < 2e-7


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("classes", [1, 3, 7])
def test_coefficients_of_target_classes(classes, dtype):
    """One in a row, as the text has it; a target that is no class is found wherever it stands."""
    from minigrad.kernels.compiled import entropy

    target = (np.arange(9) % classes).astype(dtype)
    op = ClassCoefficients(classes, 0.25, np.dtype(np.float32))
    q, known = entropy.coefficients(op, target)
    wanted, also = op.forward(target)
    assert known
    assert also
    np.testing.assert_array_equal(q, wanted, strict=True)
    np.testing.assert_array_equal(q, np.eye(classes)[target.astype(int)] * 0.25)
    for place in (0, 4, 8):
        for outside in (classes, np.iinfo(dtype).max, np.iinfo(dtype).min):
            wrong = target.copy()
            wrong[place] = outside
            assert entropy.coefficients(op, wrong)[1] == op.forward(wrong)[1] == (outside == 0)


def test_coefficients_decline():
    from minigrad.kernels.compiled import entropy

    op = ClassCoefficients(3, 1.0, np.dtype(np.float32))
    target = np.arange(6) % 3
    for wrong in (target[::2], target.astype(">i8")):
        assert entropy.coefficients(op, wrong) is NotImplemented
        assert op.run_forward(wrong)[1]
    assert entropy.coefficients(ClassCoefficients(3, 1.0, np.dtype(np.float64)), target) is NotImplemented


def test_a_target_that_is_no_class_is_refused(threads):
    x, target = np.zeros((4, 3), np.float32), np.array([0, 1, 3, 2])
    with pytest.raises(ArgumentError, match="target class 3"):
        F.cross_entropy(x, target)
    assert F.cross_entropy(x, target, ignore_index=3) == pytest.approx(np.log(3))
