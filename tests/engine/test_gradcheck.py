"""The checker finds deliberately wrong operations, says where, and lets right ones pass."""

import re

import numpy as np
import pytest

import minigrad as mg
from minigrad import Op, Tensor, apply, inputs, ops, outputs
from minigrad.backend import namespace
from minigrad.errors import ArgumentError, GraphError, ShapeError
from minigrad.gradcheck import GradientError, check_gradients
from minigrad.ops.normalization_texts import BatchNorm

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 2))


class WrongFactor(Op):
    """y = x³ with gx = 2·gy·x²"""

    keeps = inputs(0)

    def forward(self, x):
        return x * x * x

    def backward(self, saved, needs, gy):
        return (gy * saved[0] * saved[0] * 2.0,)


class SlightlyWrongFactor(WrongFactor):
    def backward(self, saved, needs, gy):
        return (gy * saved[0] * saved[0] * (3 + 1e-4),)


class ForgottenSum(Op):
    """x + b, with the gradient of a broadcast b not summed; `broadcasts` would have the engine do it."""

    def forward(self, x, b):
        return x + b

    def backward(self, saved, needs, gz):
        return gz, gz


class DroppedHistory(BatchNorm):
    """The bug of others: μ and r taken from the forward pass as plain numbers. Right at order 1, wrong at order 2."""

    def backward(self, saved, needs, *gradients):
        x, weight, mean, rstd = (ops.stop_gradient(s) if i in (2, 3) else s for i, s in enumerate(saved))
        return super().backward((x, weight, mean, rstd), needs, *gradients)


class WrongSecondOutput(Op):
    """(x², x³) with the gradient of the second off by a factor of two"""

    n_out = 2
    keeps = inputs(0)

    def forward(self, x):
        return x * x, x * x * x

    def backward(self, saved, needs, first, second):
        x = saved[0]
        g = 0 * x
        if first is not None:
            g = g + first * x * 2
        if second is not None:
            g = g + second * x * x * 6
        return (g,)


class NeedsBothGradients(WrongSecondOutput):
    """Right if both outputs are used, and the second's gradient is lost if the first isn't"""

    def backward(self, saved, needs, first, second):
        x = saved[0]
        if first is None or second is None:
            return (0 * x if first is None else first * x * 2,)
        return (first * x * 2 + second * x * x * 3,)


class WrongInItsGradient(Op):
    """y = 3x with gx = 3·gy made by an operation that is itself wrong: only a gradient that depends on x shows it"""

    def forward(self, x):
        return x * 3

    def backward(self, saved, needs, gy):
        return (apply(WrongFactor3(), gy),)


class WrongFactor3(WrongInItsGradient):
    def backward(self, saved, needs, gy):
        return (gy * 4,)


class WrongWhereNegative(Op):
    keeps = inputs(0)

    def forward(self, x):
        return x * x

    def backward(self, saved, needs, gy):
        return (gy * abs(saved[0]) * 2,)


class NotANumber(WrongFactor):
    def backward(self, saved, needs, gy):
        return (gy * float("nan"),)


class KeepsTheWrongThing(Op):
    """y = eˣ, from the input in place of the output"""

    keeps = inputs(0)

    def forward(self, x):
        return namespace(x).exp(x)

    def backward(self, saved, needs, gy):
        return (gy * saved[0],)


WRONG = {
    "factor": (lambda x: apply(WrongFactor(), x), 1),
    "factor off by 3e-5": (lambda x: apply(SlightlyWrongFactor(), x), 1),
    "dropped history": (lambda x: apply(DroppedHistory((0,), (1, 2), 1e-5), x, None, None)[0], 2),
    "its own gradient": (lambda x: apply(WrongInItsGradient(), x), 2),
    "second output": (lambda x: apply(WrongSecondOutput(), x), 1),
    "second output alone": (lambda x: apply(NeedsBothGradients(), x), 1),
    "one sign": (lambda x: apply(WrongWhereNegative(), x), 1),
    "nan": (lambda x: apply(NotANumber(), x), 1),
    "wrong array": (lambda x: apply(KeepsTheWrongThing(), x), 1),
    "detached": (lambda x: x * ops.exp(x.detach()), 1),
    "noise": (lambda x: x * RNG.normal(), 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_derivatives_are_found(name):
    function, order = WRONG[name]
    if order > 1:
        check_gradients(function, X, order - 1)
    with pytest.raises(GradientError, match=f"order {order}"):
        check_gradients(function, X, 3)


def test_a_plain_sum_would_miss_it():
    """Why cotangents are random: the outputs of BatchNorm add up to 0, whatever its gradient."""
    class Nonsense(BatchNorm):
        def backward(self, saved, needs, *gradients):
            return (0 * saved[0], None, None)

    def normalized(x):
        return apply(Nonsense((0,), (1, 2), 1e-5), x, None, None)[0]

    check_gradients(lambda x: ops.sum(normalized(x)), X)
    with pytest.raises(GradientError):
        check_gradients(normalized, X)


def test_the_message_names_order_input_place_and_both_values():
    def function(fixed, x):
        y = apply(WrongFactor(), x)
        return ops.where(np.arange(6).reshape(3, 2) == 3, y, 0.0)

    with pytest.raises(GradientError) as raised:
        check_gradients(function, (np.arange(3), X))
    said = re.search(r"order 1, input 1, element \(1, 1\): analytic (\S+); wanted numeric (\S+), ", str(raised.value))
    assert said
    assert float(said[1]) == pytest.approx(float(said[2]) * 2 / 3, rel=1e-6)
    assert isinstance(raised.value, AssertionError)


def test_a_gradient_of_the_wrong_shape_is_named():
    """The engine itself sees that."""
    with pytest.raises(ShapeError, match=r"ForgottenSum: got a gradient of shape \(4, 3, 2\) for input 1; .* \(3, 2\)"):
        check_gradients(lambda a, b: apply(ForgottenSum(), a, b), (np.ones((4, 3, 2)), X))


@pytest.mark.parametrize("function", [
    ops.exp, lambda x: x * x * x, ops.batch_norm, lambda x: (ops.sin(x), ops.sum(x)), lambda x: x * 0,
    lambda x: ops.sin(x * 20), lambda x: ops.exp(x * 1e-3), lambda x: 1e6 * ops.sin(x), lambda x: [x * x, x],
], ids=["exp", "cube", "batch_norm", "tuple", "zero", "fast", "slow", "large", "list"])
def test_right_derivatives_pass(function):
    errors = check_gradients(function, X, 3, rtol=1e-5)
    assert len(errors) == 3
    assert max(errors) <= 1e-5


def test_the_differences_are_of_fourth_order():
    """Halving the step divides what is left by sixteen, until rounding takes over."""
    coarse, fine = (check_gradients(ops.exp, X, eps=eps, rtol=1)[0] for eps in (0.04, 0.02))
    assert coarse / fine == pytest.approx(16, rel=0.05)
    assert check_gradients(ops.exp, X)[0] <= 1e-11


def test_high_orders_are_as_sharp_as_the_first():
    errors = check_gradients(lambda x: ops.sin(x) * ops.exp(x * 0.5), X, 6)
    assert max(errors) <= 1e-10


def test_the_returned_measure():
    """A factor wrong by δ is reported as δ ÷ (1 + δ) … of the numeric value: 1e-4 of 3."""
    (error,) = check_gradients(WRONG["factor off by 3e-5"][0], X, rtol=1e-3)
    assert error == pytest.approx(1e-4 / 3, rel=1e-3)


def test_inputs():
    """float32 is checked in float64, integers, numbers and None are passed on, and nothing is written to."""
    seen = []

    def function(x, i, none, number):
        seen.append((x.dtype, i.dtype, none, number))
        return x[i] * number

    x, i = X.astype(np.float32), np.array([0, 0, 2])
    copies = x.copy(), i.copy()
    check_gradients(function, (Tensor(x, requires_grad=True), i, None, 2.5), 2)
    assert set(seen) == {(np.dtype(np.float64), np.dtype(np.int64), None, 2.5)}
    np.testing.assert_array_equal(x, copies[0])
    np.testing.assert_array_equal(i, copies[1])


def test_outputs_of_integers_are_left_out():
    x = np.arange(8.0).reshape(1, 2, 4)
    check_gradients(lambda x: ops.max_pool(x, (2,), (2,), (0,), (1,)), x, 2)


@pytest.mark.parametrize("shape", [(), (0,), (2, 0)], ids=str)
def test_inputs_without_axes_or_elements(shape):
    assert check_gradients(lambda x: x * x, np.ones(shape), 2) == pytest.approx((0, 0), abs=1e-10)


def test_some_elements_only():
    calls = []

    def function(x):
        calls.append(1)
        return x * x

    check_gradients(function, np.ones(1000), elements=3)
    assert len(calls) <= 3 * 4 + 4


def test_it_works_inside_no_grad():
    with mg.no_grad(), pytest.raises(GradientError):
        check_gradients(WRONG["factor"][0], X)


def test_refusals():
    with pytest.raises(GraphError, match="depend on no floating-point input"):
        check_gradients(lambda x: Tensor([1.0]), X)
    with pytest.raises(GraphError, match="depend on no floating-point input"):
        check_gradients(lambda i: Tensor(X)[i], np.array([0, 1]))
    with pytest.raises(ArgumentError, match="order=0"):
        check_gradients(ops.exp, X, 0)


def test_an_operation_written_by_hand():
    """What the documentation of Op promises is enough to pass at every order."""
    class Logistic(Op):
        keeps = outputs(0)

        def forward(self, x):
            return 1 / (1 + namespace(x).exp(-x))

        def backward(self, saved, needs, gy):
            y = saved[0]
            return (gy * y * (1 - y),)

    check_gradients(lambda x: apply(Logistic(), x), X, 5)
