"""jvp and vjp against Jacobians written out column by column, with numeric derivatives of fourth order."""

import numpy as np
import pytest
from cases import relative

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.errors import GraphError, ShapeError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 4))
X = RNG.normal(size=(4, 2))


def jacobian(function, x, h=1e-3):
    """∂y/∂x as a matrix: a row per element of y, a column per element of x."""
    columns = []
    for place in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[place] = h
        near, far = function(x + d) - function(x - d), function(x + 2 * d) - function(x - 2 * d)
        columns.append(((8 * near - far) / (12 * h)).reshape(-1))
    return np.stack(columns, 1)


FUNCTIONS = {
    "linear": lambda x: ops.matmul(A if isinstance(x, np.ndarray) else Tensor(A), x),
    "batch_norm": lambda x: ops.batch_norm(x)[0],
    "statistics": lambda x: ops.batch_norm(x)[2] * 3,
    "softmax": lambda x: ops.softmax(x, 0),
    "chain": lambda x: ops.tanh(ops.layer_norm(x * x, 2) + ops.sum(x, 0)),
    "pool": lambda x: ops.avg_pool(ops.reshape(x, (1, 1, 8)), (3,), (2,), (1,)),
    "slice": lambda x: ops.exp(x[1:3, 0]),
    "affine": lambda x: x * 2 + 1,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_products_with_the_jacobian(name):
    function = FUNCTIONS[name]
    matrix = jacobian(function, X)
    v = RNG.normal(size=X.shape)
    y, product = mg.jvp(function, Tensor(X), Tensor(v))
    np.testing.assert_array_equal(y.numpy(), function(X))
    assert relative(product.numpy().reshape(-1), matrix @ v.reshape(-1)) <= 1e-9
    u = RNG.normal(size=y.shape)
    y, product = mg.vjp(function, Tensor(X), Tensor(u))
    np.testing.assert_array_equal(y.numpy(), function(X))
    assert relative(product.numpy().reshape(-1), matrix.T @ u.reshape(-1)) <= 1e-9


@pytest.mark.parametrize("name", FUNCTIONS)
def test_they_are_adjoint(name):
    """⟨u, J·v⟩ = ⟨Jᵀ·u, v⟩, to rounding."""
    function, v = FUNCTIONS[name], RNG.normal(size=X.shape)
    y, forward = mg.jvp(function, Tensor(X), Tensor(v))
    u = RNG.normal(size=y.shape)
    _, backward = mg.vjp(function, Tensor(X), Tensor(u))
    left, right = np.sum(u * forward.numpy()), np.sum(backward.numpy() * v)
    assert abs(left - right) <= 1e-12 * max(1, abs(left))


def test_several_inputs_and_outputs():
    w, v, dw = RNG.normal(size=2), RNG.normal(size=X.shape), RNG.normal(size=2)

    def function(x, w):
        y, mean, variance, _ = ops.batch_norm(x, w)
        return y, mean * w, variance

    ys, products = mg.jvp(function, (Tensor(X), Tensor(w)), (Tensor(v), Tensor(dw)))
    assert len(ys) == len(products) == 3
    for k, product in enumerate(products):
        wanted = jacobian(lambda x, k=k: function(x, w)[k], X) @ v.reshape(-1)
        wanted += jacobian(lambda w, k=k: function(X, w)[k], w) @ dw
        assert relative(product.numpy().reshape(-1), wanted) <= 1e-9
    us = [RNG.normal(size=y.shape) for y in ys]
    _, (gx, gw) = mg.vjp(function, (Tensor(X), Tensor(w)), [Tensor(u) for u in us])
    wanted = sum(jacobian(lambda x, k=k: function(x, w)[k], X).T @ u.reshape(-1) for k, u in enumerate(us))
    assert relative(gx.numpy().reshape(-1), wanted) <= 1e-9
    assert gw.shape == (2,)


@pytest.mark.parametrize("name", ["batch_norm", "statistics", "chain", "softmax"])
def test_jvp_of_jvp(name):
    """Along v twice: the second derivative of t ↦ f(x + t·v), and mixed along v and w."""
    function, v, w = FUNCTIONS[name], RNG.normal(size=X.shape), RNG.normal(size=X.shape)

    def along(x, direction):
        return mg.jvp(function, x, Tensor(direction), create_graph=True)[1]

    for first, second in ((v, v), (v, w)):
        _, found = mg.jvp(lambda x, first=first: along(x, first), Tensor(X), Tensor(second))
        numeric = jacobian(lambda x, first=first: along(Tensor(x), first).numpy(), X) @ second.reshape(-1)
        assert relative(found.numpy().reshape(-1), numeric) <= 1e-8
    _, other = mg.jvp(lambda x: along(x, w), Tensor(X), Tensor(v))
    assert relative(other.numpy(), found.numpy()) <= 1e-11  # second derivatives commute


def test_jvp_three_deep():
    """t ↦ BN(x + t·v) has a third derivative; PyTorch's fused one is wrong from there."""
    v = RNG.normal(size=X.shape)

    def derivative(function):
        return lambda x: mg.jvp(function, x, Tensor(v), create_graph=True)[1]

    once = derivative(FUNCTIONS["batch_norm"])
    thrice = derivative(derivative(once))(Tensor(X)).numpy()
    h = 1e-3
    values = {k: derivative(once)(Tensor(X + k * h * v)).numpy() for k in (-2, -1, 1, 2)}
    numeric = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)
    assert relative(thrice, numeric) <= 1e-8


def test_hessian_vector_product():
    """The jvp of the gradient, for f = ⟨x, exp x⟩ with Hessian diag((2 + x)·exp x)."""
    x, v = RNG.normal(size=5), RNG.normal(size=5)

    def gradient(x):
        return mg.vjp(lambda x: (x * ops.exp(x)).sum(), x, create_graph=True)[1]

    _, found = mg.jvp(gradient, Tensor(x), Tensor(v))
    assert relative(found.numpy(), (2 + x) * np.exp(x) * v) <= 1e-13


def test_inputs_and_outputs_without_influence():
    x, w, one = Tensor(np.ones(3)), Tensor(np.ones(2)), Tensor(np.ones(3))
    _, (gx, gw) = mg.vjp(lambda x, w: x.sum(), (x, w))
    assert gx.tolist() == [1, 1, 1]
    assert gw.tolist() == [0, 0]
    _, products = mg.jvp(lambda x, w: (w * 1, x * 2, Tensor([5.0])), (x, w), (one, Tensor(np.zeros(2))))
    assert [p.tolist() for p in products] == [[0, 0], [2, 2, 2], [0]]


def test_outputs_of_integers_pass():
    x = Tensor(np.arange(4.0).reshape(1, 1, 4))
    (y, which), (dy, dwhich) = mg.jvp(lambda x: ops.max_pool(x, (2,), (2,), (0,), (1,)), x, x * 10)
    assert (y.tolist(), dy.tolist()) == ([[[1, 3]]], [[[10, 30]]])
    assert which.dtype == dwhich.dtype == np.int32
    assert not dwhich.numpy().any()


def test_one_tensor_as_two_inputs():
    """Each input has a derivative of its own, and what the function knows of it otherwise is constant."""
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)

    def function(a, b):
        return a * a + 5 * b * x

    _, (ga, gb) = mg.vjp(function, (x, x), Tensor(np.ones(2)))
    assert (ga.tolist(), gb.tolist()) == ([2, 4], [5, 10])
    _, product = mg.jvp(function, (x, x), (Tensor(np.ones(2)), Tensor(np.zeros(2))))
    assert product.tolist() == [2, 4]
    _, (ga, gb) = mg.vjp(function, (x, x), Tensor(np.ones(2)), create_graph=True)
    assert mg.grad(ga.sum() + gb.sum(), x)[0].tolist() == [7, 7]


def test_outputs_without_any_influence():
    x = Tensor(np.ones(2), requires_grad=True)
    _, product = mg.vjp(lambda x: x.detach() * 2, x, Tensor(np.ones(2)))
    assert product.tolist() == [0, 0]
    _, product = mg.vjp(lambda x: (x.detach(), x * 3), x, (Tensor(np.ones(2)), Tensor(np.ones(2))))
    assert product.tolist() == [3, 3]
    with pytest.raises(ShapeError, match="1 cotangents; wanted one for each of 2 outputs"):
        mg.vjp(lambda x: (x, x), x, Tensor(np.ones(2)))


def test_the_identity():
    x, v = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    assert mg.jvp(lambda x: x, x, v)[1].tolist() == [3, 4]
    assert mg.vjp(lambda x: x, x, v)[1].tolist() == [3, 4]


@pytest.mark.parametrize("product", [mg.jvp, mg.vjp])
def test_inside_no_grad(product):
    """A derivative that is asked for is not silently 0."""
    with mg.no_grad():
        assert product(lambda x: x * x, Tensor([3.0]), Tensor([1.0]))[1].tolist() == [6]
        assert not mg.is_grad_enabled()


def test_inputs_are_left_alone():
    x = Tensor([1.0, 2.0])
    leaf = Tensor([1.0, 2.0], requires_grad=True)
    for t in (x, leaf):
        mg.jvp(ops.exp, t, Tensor([1.0, 1.0]))
        mg.vjp(ops.exp, t, Tensor([1.0, 1.0]))
        assert t.grad is None
    assert not x.requires_grad


@pytest.mark.parametrize(("call", "error", "said"), [
    (lambda x: mg.jvp(ops.exp, x, Tensor([1.0])), ShapeError, r"tangents of shapes \[\(1,\)\]"),
    (lambda x: mg.jvp(ops.exp, (x, x), x), ShapeError, "those of the inputs"),
    (lambda x: mg.vjp(ops.exp, x), GraphError, "no gradient for it"),
    (lambda x: mg.vjp(ops.exp, x, Tensor([1.0])), ShapeError, r"shape \(1,\)"),
], ids=["tangent", "tangents", "no cotangent", "cotangent"])
def test_refusals(call, error, said):
    with pytest.raises(error, match=said):
        call(Tensor([1.0, 2.0]))
