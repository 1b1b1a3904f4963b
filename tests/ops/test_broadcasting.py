"""Broadcasting: values as NumPy's, and gradients summed back to the shape of what was broadcast."""

import numpy as np
import pytest
from cases import CASES, relative
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.gradcheck import check_gradients
from minigrad.op import sum_to

SHAPES = [((2, 3), (3,)), ((2, 1), (1, 3)), ((3,), ()), ((), (2, 1)), ((1, 1, 2), (3, 1)),
          ((4, 1, 2), (1, 3, 1)), ((0, 3), (1,))]
TWO = [case for case in CASES if case.elementwise and len(case.inputs) == 2 and case.name != "dropout"]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("case", TWO, ids=str)
def test_two_inputs(case, shapes):
    arrays = case.draw(shapes)
    assert relative(case.call(*arrays), case.reference(*arrays)) <= 1e-14
    if case.order:
        check_gradients(case.call, arrays, 2)


@pytest.mark.parametrize("shapes", [((2, 1), (3,), ()), ((), (2, 3), (1, 3)), ((1,), (1, 1), (2, 1, 3))], ids=str)
def test_three_inputs(shapes):
    case = next(case for case in CASES if case.name == "where")
    arrays = case.draw(shapes)
    np.testing.assert_array_equal(ops.where(*arrays), np.where(*arrays))
    check_gradients(ops.where, arrays, 2)


@pytest.mark.parametrize("number", [2, 2.5, True, np.float64(2.5), np.float32(2.5), np.int64(2)], ids=repr)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"])
def test_numbers_on_both_sides(name, number):
    """Python numbers take the other's dtype; NumPy scalars have one of their own and promote."""
    x = np.array([0.5, 3.0, 1.5], np.float32)
    for arguments in ((x, number), (number, x)):
        wanted = getattr(np, name)(*arguments)
        t = Tensor(x, requires_grad=True)
        y = getattr(ops, name)(*[t if a is x else a for a in arguments])
        assert y.dtype == wanted.dtype
        np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-6)
        y.sum().backward()
        assert t.grad.dtype == np.float32
        assert t.grad.shape == (3,)


def test_gradients_are_exact_sums():
    x, y = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    (x * y).backward(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(x.grad.numpy(), [[0, 2, 6], [3, 8, 15]])
    np.testing.assert_array_equal(y.grad.numpy(), [3, 5, 7])


def test_an_input_broadcast_against_itself():
    x = Tensor(np.array([[1.0], [2.0]]), requires_grad=True)
    (x * x.reshape(1, 2)).sum().backward()  # (Σ x)²
    np.testing.assert_array_equal(x.grad.numpy(), [[6], [6]])


@settings(max_examples=60, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_any_two_shapes(shapes):
    a, b = (np.random.default_rng(0).uniform(1, 2, s) for s in shapes.input_shapes)
    x, y = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
    z = x * y
    np.testing.assert_array_equal(z.numpy(), a * b)
    gx, gy = mg.grad(z.sum(), (x, y))
    assert relative(gx.numpy(), sum_by_loops(np.broadcast_to(b, z.shape), a.shape)) <= 1e-14
    assert relative(gy.numpy(), sum_by_loops(np.broadcast_to(a, z.shape), b.shape)) <= 1e-14


def sum_by_loops(g, shape):
    total = np.zeros(shape)
    for place in np.ndindex(g.shape):
        tail = place[len(place) - len(shape):]
        total[tuple(0 if n == 1 else i for i, n in zip(tail, shape))] += g[place]
    return total


@settings(max_examples=60, deadline=None)
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3), st.booleans())
def test_sum_to_is_the_adjoint_of_broadcast_to(shapes, traced):
    """⟨broadcast(a), b⟩ = ⟨a, sum_to(b)⟩"""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=shapes.input_shapes[0]), rng.normal(size=shapes.result_shape)
    back = sum_to(Tensor(b) if traced else b, a.shape)
    assert np.shape(back) == a.shape
    left = np.sum(np.broadcast_to(a, b.shape) * b)
    assert abs(left - np.sum(a * np.asarray(back))) <= 1e-12 * max(1, abs(left))
