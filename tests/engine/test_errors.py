"""Errors name the operation, the layer, what was got and what was wanted; and a refused call changes nothing."""

import contextlib
import gc

import numpy as np
import pytest

import minigrad as mg
from minigrad import Op, Tensor, apply, ops
from minigrad.errors import ArgumentError, DtypeError, MinigradError, ShapeError
from minigrad.modes import switch

A, B = np.ones((2, 3), np.float32), np.ones((4, 5))

CASES = {
    "add": (lambda: Tensor(A) + B, ShapeError, r"^Add: got float32\[2, 3\], float64\[4, 5\]\. operands could not be"),
    "matmul": (lambda: Tensor(A) @ Tensor(B), ShapeError, r"^MatMul: got float32\[2, 3\], float64\[4, 5\]"),
    "matmul of numbers": (lambda: ops.matmul(Tensor(1.0), A), ShapeError, "at least one axis"),
    "linear": (lambda: ops.linear(A, B), ShapeError, r"linear: got input \(2, 3\), weight \(4, 5\); wanted input"),
    "linear bias": (lambda: ops.linear(A, np.ones((5, 3)), np.ones(4)), ShapeError, r"bias \(4,\)"),
    "reshape": (lambda: ops.reshape(Tensor(A), (4, 2)), ShapeError, r"Reshape\(shape=\(4, 2\)\): got float32\[2, 3\]"),
    "reshape to two unknowns": (lambda: ops.reshape(A, (-1, -1)), ShapeError, "Reshape"),
    "sum": (lambda: ops.sum(A, 2), ShapeError, "sum: got axis 2; wanted an axis of an array of 2 dimensions"),
    "sum twice": (lambda: ops.sum(A, (0, -2)), ShapeError, r"sum: got axes \(0, -2\); wanted each axis once"),
    "mean of nothing": (lambda: ops.mean(np.ones((0, 3)), 0), ShapeError, r"mean: got shape \(0, 3\), axes \(0,\)"),
    "max of nothing": (lambda: ops.max(np.ones(0)), ShapeError, "max.*at least one element"),
    "variance of one": (lambda: ops.var(np.ones(1), correction=1), ShapeError, "var: got 1 elements, correction 1"),
    "index": (lambda: Tensor(A)[5], ShapeError, r"GetItem\(key=5\): got float32\[2, 3\]\. index 5 is out of bounds"),
    "index of floats": (lambda: Tensor(A)[1.5], ShapeError, "GetItem"),
    "too many indices": (lambda: Tensor(A)[0, 0, 0], ShapeError, "too many indices"),
    "permute": (lambda: ops.permute_dims(A, (0,)), ShapeError, "permute_dims.*every axis once"),
    "squeeze": (lambda: ops.squeeze(A, 0), ShapeError, "squeeze: got axis 0 .* wanted axes of length 1"),
    "transpose": (lambda: ops.matrix_transpose(np.ones(3)), ShapeError, "at least two axes"),
    "broadcast": (lambda: ops.broadcast_to(Tensor(A), (3, 2)), ShapeError, r"BroadcastTo\(shape=\(3, 2\)\)"),
    "flatten": (lambda: ops.flatten(A, 1, 0), ShapeError, "start before end"),
    "concat": (lambda: ops.concat([Tensor(A), B], 0), ShapeError, r"Concat\(axis=0\): got float32\[2, 3\], float64"),
    "concat of nothing": (lambda: ops.concat([]), ShapeError, "no arrays"),
    "stack": (lambda: ops.stack([A, B]), ShapeError, r"stack: got shapes \[\(2, 3\), \(4, 5\)\]"),
    "clip": (lambda: ops.clip(A), ArgumentError, "clip: got min=None, max=None; wanted at least one bound"),
    "softmax": (lambda: ops.softmax(A, 3), ShapeError, "softmax: got axis 3"),
    "negative of bool": (lambda: -Tensor([True]), DtypeError, r"Negative: got bool\[1\]"),
    "or of floats": (lambda: Tensor(A) | Tensor(A), DtypeError, "LogicalOr"),
    "cross_entropy": (lambda: ops.cross_entropy(np.ones((2, 3), int), A, True), DtypeError, "cross_entropy: .*int64"),
}


@pytest.mark.parametrize("name", CASES)
def test_messages(name):
    call, error, said = CASES[name]
    with pytest.raises(error, match=said):
        call()


SCOPE = ((None, "", "Net"), "features", "Sequential")


@pytest.mark.parametrize("name", CASES)
def test_messages_name_the_layer(name):
    call, error, _ = CASES[name]
    with switch(scope=(SCOPE, "3", "Linear")), pytest.raises(error, match=r"in layer features\.3 \(Linear\): got"):
        call()


class Breaks(Op):
    """Fails in forward or in backward, with any exception."""

    __slots__ = ("error", "when")

    def __init__(self, error, when):
        self.error, self.when = error, when

    def forward(self, x):
        if self.when == "forward":
            raise self.error
        return x + 0

    def backward(self, saved, needs, gy):
        raise self.error


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(("raised", "seen"), [
    (ValueError("odd"), ShapeError), (IndexError("far"), ShapeError), (TypeError("kind"), DtypeError),
    (KeyError("other"), KeyError), (ZeroDivisionError("zero"), ZeroDivisionError),
    (ArgumentError("inner", got="x"), ArgumentError),
], ids=lambda v: type(v).__name__ if isinstance(v, Exception) else "")
def test_errors_of_texts(raised, seen, create_graph):
    x = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(seen, match=str(raised).strip("'")):
        apply(Breaks(raised, "forward"), x)
    with switch(scope=(SCOPE, "3", "Linear")):
        y = apply(Breaks(raised, "backward"), x)
    with pytest.raises(seen) as caught:
        mg.grad(y.sum(), x, create_graph=create_graph)
    if isinstance(caught.value, (ShapeError, DtypeError)):
        assert str(caught.value).startswith("backward of Breaks(")
        assert "layer features.3 (Linear)" in str(caught.value)
        assert "float32[2]" in str(caught.value)
        assert caught.value.__cause__ is raised
    assert mg.is_grad_enabled()
    assert x.grad is None


def test_a_refused_call_records_nothing():
    x = Tensor(A, requires_grad=True)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        with contextlib.suppress(MinigradError):
            x + B
    assert len(gc.get_objects()) - before <= 5
    assert x.is_leaf
    assert x.grad is None
    assert mg.is_grad_enabled()


def test_the_parts_of_a_message():
    assert str(MinigradError("conv2d")) == "conv2d"
    assert str(MinigradError("conv2d", got="3")) == "conv2d: got 3"
    assert str(MinigradError("conv2d", wanted="4", hint="Do that")) == "conv2d: wanted 4. Do that"
    assert str(MinigradError("conv2d", "3", "4", "Do that")) == "conv2d: got 3; wanted 4. Do that"
