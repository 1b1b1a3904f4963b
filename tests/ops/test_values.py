"""Values against NumPy: over dtypes, memory layouts, and on arrays as on Tensors. No input is ever written to."""

import numpy as np
import pytest
import references
from cases import CASES, NOT_OPERATIONS, as_tuple, relative

from minigrad import Tensor, ops

TOLERANCE = {np.float64: 1e-13, np.float32: 2e-6, np.float16: 4e-3}
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def test_every_operation_has_a_row():
    named = {case.name for case in CASES}
    assert sorted(set(ops.__all__) - named - set(NOT_OPERATIONS)) == []
    assert sorted((named | set(NOT_OPERATIONS)) - set(ops.__all__)) == []


def of_dtype(arrays, dtype):
    """The floating-point ones among `arrays` in `dtype`, rounded so that they differ from float64's by nothing else."""
    return [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]


def in_float64(arrays):
    return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda d: d.__name__)
@every_case
def test_value(case, dtype):
    arrays = of_dtype(case.draw(), dtype)
    before = [a.copy() for a in arrays]
    found, wanted = as_tuple(case.call(*arrays)), as_tuple(case.reference(*in_float64(arrays)))
    assert len(found) == len(wanted)
    for y, z in zip(found, wanted):
        assert relative(y, z) <= TOLERANCE[dtype]
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)
    # These give float32 or wider for what is summed.
    if case.name not in ("cast", "moments", "mean_square", "batch_norm", "instance_norm", "linear_batch_norm"):
        assert all(np.asarray(y).dtype in (dtype, np.bool_, np.int64) for y in found)


@pytest.mark.parametrize("case", [case for case in CASES if case.integers], ids=str)
def test_value_of_integers(case):
    arrays = [np.rint(a * 4).astype(np.int64) if a.dtype.kind == "f" else a for a in case.draw()]
    if case.name == "divide":
        arrays[1] = np.where(arrays[1] == 0, 3, arrays[1])
    for y, z in zip(as_tuple(case.call(*arrays)), as_tuple(case.reference(*arrays)), strict=True):
        assert np.asarray(y).dtype == np.asarray(z).dtype
        assert relative(y, z) <= 1e-13


@every_case
def test_tensors_give_what_arrays_give(case):
    arrays = case.draw()
    recorded = [Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    found, wanted = as_tuple(case.call(*recorded)), as_tuple(case.call(*arrays))
    for y, z in zip(found, wanted, strict=True):
        assert isinstance(y, Tensor)
        assert not isinstance(z, Tensor)
        assert y.dtype == np.asarray(z).dtype
        assert y.requires_grad == (case.order > 0)
        np.testing.assert_array_equal(y.numpy(), z)
    if case.order:
        sum((y * np.arange(y.size).reshape(y.shape)).sum() for y in found).backward()
        for x, a in zip(recorded, arrays):
            np.testing.assert_array_equal(x.numpy(), a)  # backward writes into nothing either


@every_case
def test_one_tensor_among_arrays_is_enough(case):
    arrays = case.draw()
    wanted = as_tuple(case.call(*arrays))
    for i in range(len(arrays)):
        found = as_tuple(case.call(*[Tensor(a) if k == i else a for k, a in enumerate(arrays)]))
        for y, z in zip(found, wanted, strict=True):
            assert isinstance(y, Tensor)
            np.testing.assert_array_equal(y.numpy(), z)


def strided(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if a.ndim else a.copy()
    view = wide[..., ::2] if a.ndim else wide
    view[...] = a
    return view


LAYOUTS = {
    "fortran": lambda a: np.array(a, order="F"),  # np.asfortranarray would add an axis to an array without any
    "reversed": lambda a: np.flip(np.flip(a).copy()),
    "strided": strided,
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim else a,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_case
def test_memory_layout_does_not_matter(case, layout):
    arrays = [LAYOUTS[layout](a) for a in case.draw()]
    found, wanted = case.call(*arrays), case.call(*[np.array(a, order="C") for a in arrays])
    for y, z in zip(as_tuple(found), as_tuple(wanted), strict=True):
        assert relative(y, z) <= 1e-14


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("case", [case for case in CASES if case.elementwise], ids=str)
def test_elementwise_functions_take_every_shape(case, shape):
    arrays = case.draw([shape] * len(case.inputs))
    wanted = case.reference(*arrays)
    assert relative(case.call(*arrays), wanted) <= 1e-13
    y = case.call(*[Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays])
    assert y.shape == shape
    assert relative(y.numpy(), wanted) <= 1e-13


@pytest.mark.parametrize("case", [case for case in CASES if case.batch], ids=str)
def test_empty_batch(case):
    first, *others = (i.shape for i in case.inputs)
    others = [(0, *s[1:]) if case.name == "cross_entropy" else s for s in others]
    arrays = case.draw([(0, *first[1:]), *others])
    wanted = case.reference(*arrays) if case.name != "flatten" else np.zeros(np.shape(case.call(*arrays)))
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    y = case.call(*xs)
    assert y.shape == np.shape(wanted)
    y.sum().backward()
    for x in xs:
        assert x.grad.shape == x.shape
        assert not x.grad.numpy().any()


def test_half_precision_does_not_overflow_inside():
    """Where the result fits into float16, so must every step on the way."""
    large = np.array([300, -300, 100, 40], np.float16)
    cases = [
        (ops.mean, np.full(4000, 300, np.float16), 300.0),
        (ops.std, large, np.std(large.astype(np.float64))),
        (lambda x: ops.avg_pool(x, (60, 60), (1, 1), (0, 0)), np.full((1, 1, 60, 60), 100, np.float16), 100.0),
        (ops.logsumexp, np.zeros(60_000, np.float16), np.log(60_000)),
        (ops.erf, np.array([0.1, 3.3, -4, 9, 200], np.float16), references.erf([0.1, 3.3, -4, 9, 200])),
        (ops.gelu, large, np.maximum(large, 0)),
        (lambda x: ops.gelu(x, True), large, np.maximum(large, 0)),
        (ops.softplus, np.array([5, 12, 15, 25], np.float16), np.log1p(np.exp([5.0, 12, 15, 25]))),
        (ops.softmax, np.zeros(5000, np.float16), np.full(5000, 1 / 5000)),
    ]
    for function, x, wanted in cases:
        y = function(Tensor(x, requires_grad=True))
        assert relative(y.numpy().reshape(np.shape(wanted)), wanted) <= 1e-3
        y.sum().backward()


def test_half_precision_sums_in_float32():
    """5,000 ones add up to 2,048 when they are added one by one in float16."""
    x = np.ones((5000, 3), np.float16)
    for total in (ops.sum(x, 0), ops.linear(Tensor(x), Tensor(np.ones((1, 3), np.float16))).sum() / 3):
        np.testing.assert_array_equal(np.asarray(total), np.full(np.shape(total), 5000))
    bias = Tensor(np.zeros(3, np.float16), requires_grad=True)
    (Tensor(x) + bias).sum().backward()
    np.testing.assert_array_equal(bias.grad.numpy(), [5000] * 3)
    for function in (ops.log_softmax, ops.softmax):
        even = Tensor(np.zeros((5000, 3), np.float16), requires_grad=True)
        function(even, 0).backward(np.ones(even.shape))
        assert np.abs(even.grad.numpy()).max() <= 2e-3
    ties = Tensor(x, requires_grad=True)
    ops.max(ties, 0).sum().backward()
    assert relative(ties.grad.numpy(), np.full(x.shape, 1 / 5000)) <= 1e-3


@pytest.mark.parametrize("x", [-700.0, -40.0, -1e-3, 0.0, 1e-3, 40.0, 700.0, 1e300, -1e300, np.inf, -np.inf])
def test_activations_far_out(x):
    """No overflow, no NaN but where the limit has none, and no warning (which pytest makes an error)."""
    a = np.array(x)
    assert ops.sigmoid(a) == pytest.approx(np.exp(min(x, 0)) / (1 + np.exp(-abs(x))), rel=1e-14)
    assert ops.softplus(a) == pytest.approx(max(x, 0) + np.log1p(np.exp(-abs(x))), rel=1e-8)
    assert ops.tanh(a) == pytest.approx(np.tanh(x))
    assert ops.erf(a) == pytest.approx(references.erf(x), rel=1e-15)
    assert ops.logsumexp(np.array([x, x])) == pytest.approx(x + np.log(2))


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_of_none_some_and_all(p):
    x, kept = Tensor(np.ones(4), requires_grad=True), np.array([p == 0, False, p < 1, p < 1])
    y = ops.dropout(x, kept, p)
    y.sum().backward()
    wanted = kept / (1 - p) if p < 1 else np.zeros(4)
    assert y.tolist() == x.grad.tolist() == wanted.tolist()


def test_erf_to_the_last_places():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.46875, -0.46875, 4.0, -4.0, 30.0]])
    assert np.abs(ops.erf(x) - references.erf(x)).max() <= 4.5e-16
    small = np.geomspace(1e-300, 0.4, 100)
    assert np.abs(ops.erf(small) / references.erf(small) - 1).max() <= 5e-16
    assert np.isnan(ops.erf(np.array([np.nan]))).all()


def test_sigmoid_of_unsigned_integers():
    """−x wraps around in them."""
    assert relative(ops.sigmoid(np.array([3], np.uint8)), [1 / (1 + np.exp(-3.0))]) <= 1e-3


@pytest.mark.parametrize("make", [lambda a: a, Tensor], ids=["array", "tensor"])
def test_softmax_and_attention_without_elements(make):
    for shape, axis in (((0,), 0), ((3, 0), 1), ((0, 3), 1), ((2, 0, 3), 1)):
        for function in (ops.softmax, ops.log_softmax):
            y = function(make(np.ones(shape, np.float32)), axis)
            assert tuple(y.shape) == shape
            assert y.dtype == np.float32
    q, k, v = (make(np.ones(s, np.float32)) for s in ((2, 5, 3), (2, 0, 3), (2, 0, 4)))
    y, weights = ops.attention(q, k, v)
    assert y.dtype == weights.dtype == np.float32
    assert tuple(weights.shape) == (2, 5, 0)
    np.testing.assert_array_equal(np.asarray(y), np.zeros((2, 5, 4)))
