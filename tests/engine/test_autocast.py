"""autocast: which operations compute in half precision, and that gradients, caching and higher orders stay right."""

import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Parameter, Tensor, autocast, grad, layers, ops
from minigrad.errors import ArgumentError

RNG = np.random.default_rng(0)
HALF = np.float16


def drawn(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(("call", "dtype"), [
    (ops.linear, HALF), (lambda x, w: x @ w.T, HALF), (lambda x, w: ops.matmul(x, w.T), HALF),
    (lambda x, w: x * 2.0, np.float32), (lambda x, w: minigrad.relu(ops.linear(x, w)), HALF),
    (lambda x, w: ops.linear(x, w).sum(), np.float32), (lambda x, w: ops.linear(x, w).mean(axis=0), np.float32),
    (lambda x, w: F.softmax(ops.linear(x, w), 1), np.float32), (lambda x, w: ops.linear(x, w).exp(), np.float32),
    (lambda x, w: ops.linear(x, w) + x[:, :5], np.float32), (lambda x, w: ops.batch_norm(ops.linear(x, w))[0], HALF),
    (lambda x, w: ops.batch_norm(ops.linear(x, w))[1], np.float32),
    (lambda x, w: F.cross_entropy(ops.linear(x, w), np.zeros(4, np.int64)), np.float32),
    (lambda x, w: F.mse_loss(ops.linear(x, w), np.zeros((4, 5), np.float32)), np.float32),
    (lambda x, w: ops.linear(x.astype(np.float64), w.astype(np.float64)), np.float64),
])
def test_the_type_in_which_an_operation_computes(call, dtype):
    x, w = Tensor(drawn(4, 6)), Parameter(drawn(5, 6))
    with autocast("float16"):
        assert call(x, w).dtype == dtype


def test_products_are_those_of_half_arguments_and_the_rest_is_untouched_outside():
    x, w = drawn(4, 6), drawn(5, 6)
    with autocast("float16"):
        y = ops.linear(Tensor(x), Tensor(w))
        with autocast(enabled=False):
            plain = ops.linear(Tensor(x), Tensor(w))
        assert isinstance(ops.linear(x, w), np.ndarray)
        assert ops.linear(x, w).dtype == np.float32  # arrays alone are not cast: texts compute with them
    wide = x.astype(HALF).astype(np.float64) @ w.astype(HALF).astype(np.float64).T
    assert np.abs(y.numpy() - wide).max() <= 2e-3 * np.abs(wide).max()
    assert np.array_equal(plain.numpy(), ops.linear(Tensor(x), Tensor(w)).numpy())
    assert ops.linear(Tensor(x), Tensor(w)).dtype == np.float32


@pytest.mark.parametrize("inside", [True, False])
def test_weights_receive_float32_gradients(inside):
    # Smooth throughout: what lies next to ReLU's kink may fall on either side of it in float16.
    model = layers.Sequential(layers.Conv2d(1, 4, 3), layers.BatchNorm2d(4), layers.Tanh(), layers.Flatten(),
                              layers.Linear(4 * 36, 3))
    x, t = drawn(6, 1, 8, 8), RNG.integers(0, 3, 6)

    def gradients(half):
        model.zero_grad()
        with autocast("float16", enabled=half):
            loss = F.cross_entropy(model(Tensor(x)), t)
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return [p.grad.numpy() for p in model.parameters()]

    mixed, plain = gradients(True), gradients(False)
    assert all(g.dtype == np.float32 for g in mixed)
    for found, wanted in zip(mixed[:1] + mixed[2:], plain[:1] + plain[2:]):  # a bias before BatchNorm has none
        assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()
    assert any(not np.array_equal(a, b) for a, b in zip(mixed, plain))


def test_a_parameter_is_cast_once_unless_it_is_written_to():
    w = Parameter(drawn(3, 3))
    x = Tensor(drawn(2, 3))
    with autocast("float16"):
        one, two = (ops.linear(x, w) for _ in range(2))
        assert one.node.edges[1] is two.node.edges[1]
        with minigrad.no_grad():
            assert ops.linear(x, w).edge is None  # a cast without a tape is not what the others share
        w.assign(w * 2.0)
        three = ops.linear(x, w)
        w.data = w.data.copy()
        four = ops.linear(x, w)
    assert three.node.edges[1] is not one.node.edges[1]
    assert four.node.edges[1] is not three.node.edges[1]
    assert np.allclose(three.numpy(), 2 * one.numpy(), rtol=2e-3)
    (three.sum() + four.sum()).backward()
    assert np.allclose(w.grad.numpy(), 2 * x.numpy().astype(HALF).astype(np.float32).sum(0), rtol=1e-2)


def test_the_gradient_of_a_shared_cast_is_the_sum():
    w, x = Parameter(drawn(3, 3)), drawn(2, 3)
    with autocast("float16"):
        y = ops.linear(ops.linear(Tensor(x), w), w)
    y.backward(np.ones((2, 3), HALF))
    v = Tensor(w.numpy().astype(HALF).astype(np.float64), True)
    (g,) = grad(ops.linear(ops.linear(Tensor(x.astype(np.float64)), v), v).sum(), v)
    assert np.abs(w.grad.numpy() - g.numpy()).max() < 0.01 * np.abs(g.numpy()).max()


def test_higher_orders_are_those_of_the_casts_and_operations():
    x, w = drawn(5, 4) * 0.3, drawn(3, 4) * 0.3

    def orders(half):
        a, b = Tensor(x, True), Tensor(w, True)
        with autocast("float16", enabled=half):
            value = (minigrad.sigmoid(ops.linear(minigrad.tanh(ops.linear(a, b)), b @ b.T)) ** 3).mean()
        found = []
        for _ in range(3):
            gs = grad(value, (a, b), create_graph=True)
            found += [g.numpy() for g in gs]
            value = sum(g.square().sum() for g in gs)
        return found

    for got, wanted in zip(orders(True), orders(False)):
        assert got.dtype == np.float32
        assert np.abs(got - wanted).max() < 0.05 * np.abs(wanted).max()


def test_recomputation_runs_in_the_types_of_the_first_run():
    w = Parameter(drawn(3, 3))
    x = Tensor(drawn(2, 3))
    found = []
    for call in (lambda f, a: f(a), minigrad.recompute):
        w.grad = None
        with autocast("float16"):
            loss = call(lambda a: minigrad.tanh(ops.linear(a, w)), x).sum()
        loss.backward()
        found.append(w.grad.numpy())
    assert np.array_equal(*found)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    w = Parameter(drawn(3, 4))
    with autocast("bfloat16"):
        y = ops.linear(Tensor(drawn(2, 4)), w)
        loss = y.sum()
    loss.backward()
    assert (y.dtype, loss.dtype, w.grad.dtype) == (ml_dtypes.bfloat16, np.float32, np.float32)


def test_only_on_one_kind_of_device():
    w = Parameter(drawn(3, 4))
    with autocast("float16", "cpu"):
        assert ops.linear(Tensor(drawn(2, 4)), w).dtype == HALF


def test_other_types_are_refused():
    with pytest.raises(ArgumentError, match=r"'float8'; wanted 'float16' or 'bfloat16'"):
        autocast("float8")


def test_without_the_block_nothing_is_asked_of_it(monkeypatch):
    monkeypatch.setattr("minigrad.autocasting._Casts.inputs", lambda *args: pytest.fail("asked"))
    assert ops.linear(Tensor(drawn(2, 4)), Tensor(drawn(3, 4))).dtype == np.float32
