"""Derivatives of every operation to the third order, and of BatchNorm to the fourth, against numeric ones."""

import numpy as np
import pytest
from cases import CASES, relative
from layer_cases import gradients

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.gradcheck import check_gradients

DIFFERENTIABLE = [case for case in CASES if case.order]


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_derivatives(case):
    errors = check_gradients(case.call, case.draw(), case.order, rtol=1e-6)
    assert len(errors) == case.order


@pytest.mark.parametrize("case", [case for case in DIFFERENTIABLE if len(case.inputs) > 1], ids=str)
def test_one_input_at_a_time(case):
    """What an operation keeps depends on which of its inputs need a gradient: each of them alone must do."""
    arrays = case.draw()
    for i, array in enumerate(arrays):
        if array.dtype.kind == "f":
            check_gradients(lambda x, i=i: case.call(*arrays[:i], x, *arrays[i + 1 :]), array, min(case.order, 2))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients_have_the_dtype_and_shape_of_their_inputs(case):
    """Also where float32 and float64 meet: a gradient belongs to its input, not to the result."""
    arrays = case.draw()
    xs = [Tensor(a, dtype=np.float32 if i % 2 == 0 else np.float64, requires_grad=True)
          if a.dtype.kind == "f" else Tensor(a) for i, a in enumerate(arrays)]
    result = case.call(*xs)
    ys = result if isinstance(result, tuple) else (result,)
    live = [x for x in xs if x.requires_grad]
    for create_graph in (True, False):
        found = mg.grad(ys, live, [np.ones(y.shape) for y in ys], create_graph=create_graph, allow_unused=True)
        for x, g in zip(live, found):
            assert (g.shape, g.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 1.2e-2)],
                         ids=["float32", "float16"])
@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)
def test_gradients_in_narrow_dtypes(case, dtype, tolerance):
    """Against float64 on the same rounded numbers."""
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in case.draw()]
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays]
    for g, h in zip(gradients(case.call, arrays), gradients(case.call, wide), strict=True):
        assert g.dtype == dtype
        assert relative(g, h) < tolerance


BATCH = np.random.default_rng(5).normal(size=(5, 2, 2)) * 2 + 1
WEIGHTS = {"gamma": np.array([1.5, -0.7]), "gamma 0": np.zeros(2), "gamma partly 0": np.array([0.0, 2.0]), "none": None}
BETA = np.array([0.3, -0.2])


@pytest.mark.parametrize("weight", WEIGHTS)
def test_batch_norm_in_training_to_order_four(weight):
    w = WEIGHTS[weight]
    check_gradients(lambda x, w, b: ops.batch_norm(x, w, b, eps=1e-3)[0], (BATCH, w, None if w is None else BETA), 4)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_batch_norm_in_evaluation_to_order_four(weight):
    w = WEIGHTS[weight]
    mean, variance = np.array([0.5, -1.0]), np.array([0.8, 2.0])
    check_gradients(ops.batch_norm_inference, (BATCH[:2], mean, variance, w, None if w is None else BETA), 4)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (3, 4, 5)], ids=str)
def test_layer_norm_over_several_axes(shape):
    rng = np.random.default_rng(6)
    x, w, b = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=shape), rng.normal(size=shape)
    check_gradients(lambda x, w, b: ops.layer_norm(x, shape, w, b), (x, w, b), 3, elements=6)


def _composed(x, w, b, axes, shape, eps):
    """A normalization out of primitives alone, which differentiate step by step."""
    mean = ops.mean(x, axes, keepdims=True)
    variance = ops.mean(ops.square(x - mean), axes, keepdims=True)
    y = (x - mean) / ops.sqrt(variance + eps)
    return y * ops.reshape(w, shape) + ops.reshape(b, shape)


def _softmax(x):
    return ops.exp(x) / ops.sum(ops.exp(x), 1, True)


COMPOSITIONS = {
    "batch_norm": (lambda x, w, b: ops.batch_norm(x, w, b)[0],
                   lambda x, w, b: _composed(x, w, b, (0, 2), (1, 3, 1), 1e-5), (4, 3, 2), (3,)),
    "layer_norm": (lambda x, w, b: ops.layer_norm(x, (3, 2), w, b),
                   lambda x, w, b: _composed(x, w, b, (1, 2), (3, 2), 1e-5), (4, 3, 2), (3, 2)),
    "softmax": (lambda x, w, b: ops.softmax(x, 1), lambda x, w, b: _softmax(x), (4, 3), (3,)),
    "log_softmax": (lambda x, w, b: ops.log_softmax(x, 1), lambda x, w, b: ops.log(_softmax(x)), (4, 3), (3,)),
    "logsumexp": (lambda x, w, b: ops.logsumexp(x, 1), lambda x, w, b: ops.log(ops.sum(ops.exp(x), 1)), (4, 3), (3,)),
    "cross_entropy": (lambda x, w, b: ops.cross_entropy(x, x * x, False),
                      lambda x, w, b: -ops.sum(x * x * ops.log(_softmax(x)), 1), (4, 3), (3,)),
    "linear": (ops.linear, lambda x, w, b: ops.sum(ops.expand_dims(x, 1) * w, 2) + b, (4, 3), (2, 3)),
    "silu": (lambda x, w, b: ops.silu(x), lambda x, w, b: x / (1 + ops.exp(-x)), (4, 3), (3,)),
    "tanh": (lambda x, w, b: ops.tanh(x), lambda x, w, b: 1 - 2 / (ops.exp(x * 2) + 1), (4, 3), (3,)),
    "softplus": (lambda x, w, b: ops.softplus(x), lambda x, w, b: ops.log(1 + ops.exp(x)), (4, 3), (3,)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_fused_operations_are_their_compositions(name):
    """Value and derivatives to order 4, both analytic, so that they agree to rounding."""
    fused, composed, x_shape, w_shape = COMPOSITIONS[name]
    rng = np.random.default_rng(7)
    shapes = (x_shape, w_shape, w_shape[:1] if name == "linear" else w_shape)
    xs = [Tensor(rng.normal(size=s), requires_grad=True) for s in shapes]
    y, z = fused(*xs), composed(*xs)
    for order in range(5):
        assert relative(y.numpy(), z.numpy()) <= 1e-11, f"order {order}"
        u = rng.normal(size=y.shape)
        gy = mg.grad(y, xs, u, create_graph=True, allow_unused=True)
        gz = mg.grad(z, xs, u, create_graph=True, allow_unused=True)
        assert [g is None for g in gy] == [g is None for g in gz]
        y, z = next(((a, b) for a, b in zip(gy, gz) if a is not None and a.requires_grad), (None, None))
        if y is None:
            assert name == "linear"  # whose third derivative is 0
            break


def test_power_at_zero():
    """xⁿ has derivatives at 0 for whole n; 0·∞ must not appear at any order."""
    x = Tensor(np.array([0.0, 0.0, 0.0]), requires_grad=True)
    whole = (np.array([0.0, 1.0, 2.0]), ([0, 1, 0], [0, 0, 2], [0, 0, 0]))
    for exponents, wanted in (whole, (2, ([0] * 3, [2] * 3, [0] * 3))):
        g = ops.power(x, exponents)
        for values in wanted:
            (g,) = mg.grad(g.sum(), [x], create_graph=True)
            np.testing.assert_array_equal(g.numpy(), values)
            g = g + x * 0  # keep it connected


def test_powers_of_zero_by_their_exponent():
    """0ʸ is 0 for y > 0 and stays so; below 0 it is infinite, and falls without bound."""
    x, y = Tensor(np.zeros(3), requires_grad=True), Tensor(np.array([-1.0, 0.0, 2.0]), requires_grad=True)
    with np.errstate(divide="ignore"):
        (g,) = mg.grad(ops.power(x, y).sum(), y)
    assert g.tolist() == [-np.inf, 0, 0]


@pytest.mark.parametrize(("function", "values", "wanted"), [
    (ops.relu, [-1.0, 0.0, 2.0], [0, 0, 1]),
    (ops.abs, [-1.0, 0.0, 2.0], [-1, 0, 1]),
    (lambda x: ops.clip(x, -1, 1), [-1.0, 0.0, 1.0, 1.5], [1, 1, 1, 0]),
    (ops.max, [2.0, 2.0, 1.0], [0.5, 0.5, 0]),
    (ops.min, [1.0, 1.0, 1.0, 3.0], [1 / 3, 1 / 3, 1 / 3, 0]),
    (lambda x: ops.maximum(x, 1.0), [0.0, 1.0, 2.0], [0, 0.5, 1]),
    (lambda x: ops.minimum(1.0, x), [0.0, 1.0, 2.0], [1, 0.5, 0]),
], ids=["relu", "abs", "clip", "max", "min", "maximum", "minimum"])
def test_derivatives_at_kinks(function, values, wanted):
    x = Tensor(np.array(values), requires_grad=True)
    function(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-15)


def test_cast_passes_the_gradient_and_integers_end_it():
    x = Tensor(np.array([1.5, 2.5]), requires_grad=True)
    y = ops.cast(x, np.float16)
    (y * 3).sum().backward()
    assert (x.grad.dtype, x.grad.tolist()) == (np.float64, [3, 3])
    assert ops.cast(x, np.float64) is x
    assert not ops.cast(x, np.int64).requires_grad


def test_a_key_that_changes_after_the_forward_pass():
    """Keys are no saved arrays, so a write to one must not reach the graph."""
    x, key = Tensor(np.arange(3.0), requires_grad=True), Tensor(np.array([0, 0]))
    y = x[key]
    key.assign(np.array([1, 2]))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [2, 0, 0])
