"""jacobian, hessian and hvp against matrices that are known, and against each other."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import DtypeError, GraphError, ShapeError

A = np.arange(6.0).reshape(2, 3) - 2
X = np.array([0.5, -1.0, 2.0])


def test_jacobian_of_a_linear_map_is_its_matrix():
    np.testing.assert_array_equal(mg.jacobian(lambda x: Tensor(A) @ x, Tensor(X)).numpy(), A)


def test_several_inputs_and_outputs():
    found = mg.jacobian(lambda x, y: (x * y, (y * y).sum(), x + 1), (Tensor(X), Tensor(X * 2)))
    wanted = [[np.diag(2 * X), np.diag(X)], [np.zeros(3), 4 * X], [np.eye(3), np.zeros((3, 3))]]
    for row, expected in zip(found, wanted, strict=True):
        for a, b in zip(row, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-15)


@pytest.mark.parametrize(("shape", "out"), [((), ()), ((0,), (0,)), ((2, 3), (2, 3))], ids=str)
def test_shapes(shape, out):
    x = Tensor(np.ones(shape))
    assert mg.jacobian(lambda t: t * t, x).shape == (*out, *shape)
    assert mg.hessian(lambda t: (t * t).sum(), x).shape == (*shape, *shape)


def test_constants_have_the_derivative_0():
    x = Tensor(X)
    np.testing.assert_array_equal(mg.jacobian(lambda t: Tensor(A), x).numpy(), np.zeros((2, 3, 3)))
    np.testing.assert_array_equal(mg.hessian(lambda t: Tensor(1.0), x).numpy(), np.zeros((3, 3)))
    np.testing.assert_array_equal(mg.hessian(lambda t: t.sum(), x).numpy(), np.zeros((3, 3)))
    np.testing.assert_array_equal(mg.hvp(lambda t: t.sum(), x, x)[1].numpy(), np.zeros(3))


def function(x, y):
    return (mg.sin(x) * mg.exp(y * 0.3)).sum() + (x * x * x * y).sum()


def test_hessian_against_its_formula():
    x, y = X, X[::-1].copy()
    (xx, xy), (yx, yy) = mg.hessian(function, (Tensor(x), Tensor(y)))
    np.testing.assert_allclose(xx.numpy(), np.diag(-np.sin(x) * np.exp(0.3 * y) + 6 * x * y), rtol=1e-12)
    np.testing.assert_allclose(xy.numpy(), np.diag(0.3 * np.cos(x) * np.exp(0.3 * y) + 3 * x**2), rtol=1e-12)
    np.testing.assert_allclose(yx.numpy(), xy.numpy().T, rtol=1e-12)
    np.testing.assert_allclose(yy.numpy(), np.diag(0.09 * np.sin(x) * np.exp(0.3 * y)), rtol=1e-12)


def test_hvp_is_the_hessian_times_the_vector():
    x, y, u, v = (Tensor(a) for a in (X, X + 1, A[0], A[1]))
    value, (hx, hy) = mg.hvp(function, (x, y), (u, v))
    assert value.item() == function(x, y).item()
    (xx, xy), (yx, yy) = mg.hessian(function, (x, y))
    np.testing.assert_allclose(hx.numpy(), xx.numpy() @ A[0] + xy.numpy() @ A[1], rtol=1e-12)
    np.testing.assert_allclose(hy.numpy(), yx.numpy() @ A[0] + yy.numpy() @ A[1], rtol=1e-12)


def test_results_can_be_differentiated_again():
    x = Tensor(X, requires_grad=True)
    (g,) = mg.grad(mg.hessian(lambda t: (t * t * t).sum(), x, create_graph=True).sum(), x)
    np.testing.assert_allclose(g.numpy(), [6, 6, 6])
    (g,) = mg.grad(mg.jacobian(lambda t: t * t, x, create_graph=True).sum(), x)
    np.testing.assert_allclose(g.numpy(), [2, 2, 2])
    (g,) = mg.grad(mg.hvp(lambda t: (t * t * t).sum(), x, Tensor(X), create_graph=True)[1].sum(), x)
    np.testing.assert_allclose(g.numpy(), 6 * X)


def test_batch_norm_has_a_symmetric_hessian():
    x = np.random.default_rng(0).normal(size=(4, 2))
    h = mg.hessian(lambda t: (mg.ops.batch_norm(t)[0] ** 3).sum(), Tensor(x)).numpy().reshape(8, 8)
    assert np.abs(h - h.T).max() <= 1e-12 * np.abs(h).max()
    assert np.abs(h).max() > 0.1


def test_inside_no_grad():
    with mg.no_grad():
        np.testing.assert_array_equal(mg.jacobian(lambda t: t * 2, Tensor(X)).numpy(), 2 * np.eye(3))


def test_refusals():
    with pytest.raises(ShapeError, match="one element"):
        mg.hessian(lambda x: x, Tensor(X))
    with pytest.raises(ShapeError, match="those of the inputs"):
        mg.hvp(lambda x: x.sum(), Tensor(X), Tensor(X[:2]))
    with pytest.raises(GraphError, match="no input"):
        mg.hvp(lambda x: Tensor(1.0), Tensor(X), Tensor(X))


def test_only_what_comes_by_the_arguments_is_differentiated():
    """As in torch.autograd.functional, and as vjp and jvp have it."""
    w = Tensor(X, requires_grad=True)
    np.testing.assert_array_equal(mg.jacobian(lambda x: x * w, w).numpy(), np.diag(X))
    np.testing.assert_array_equal(mg.hessian(lambda x: (x * x * w).sum(), w).numpy(), np.diag(2 * X))
    np.testing.assert_array_equal(mg.hvp(lambda x: (x * x * w).sum(), w, X)[1].numpy(), 2 * X * X)
    np.testing.assert_array_equal(mg.jvp(lambda x: x * w, w, X)[1].numpy(), X * X)
    first, second = mg.jacobian(lambda x, y: x * x * y, (w, w))
    np.testing.assert_array_equal(first.numpy(), np.diag(2 * X * X))
    np.testing.assert_array_equal(second.numpy(), np.diag(X * X))


@pytest.mark.parametrize(("call", "said"), [
    (lambda: mg.jacobian(lambda x: x, X), "^jacobian: got input 0 of type ndarray; wanted a Tensor"),
    (lambda: mg.hessian(lambda x: x.sum(), [1.0]), "^hessian: got input 0 of type float"),
    (lambda: mg.hvp(lambda x: x.sum(), X, X), "^hvp: got input 0 of type ndarray"),
    (lambda: mg.jacobian(lambda x: 3.0, Tensor(X)), "^jacobian: got output 0 of type float; wanted a Tensor"),
    (lambda: mg.hessian(lambda x: 1.0, Tensor(X)), "^hessian: got output 0 of type float"),
    (lambda: mg.jvp(lambda x: x, Tensor(X), [1.0, 2.0, 3.0]), "^jvp: got tangent 0 of type float"),
    (lambda: mg.hvp(lambda x: x.sum(), Tensor(X), [1.0]), "^hvp: got vector 0 of type float; wanted a Tensor or an"),
    (lambda: mg.vjp(lambda x: None, Tensor(X)), "^vjp: got output 0 of type NoneType"),
])
def test_what_is_no_tensor_is_refused(call, said):
    with pytest.raises(DtypeError, match=said):
        call()
