"""What a graph holds, for how long: exactly what operations declare, and nothing once it is dropped."""

import contextlib
import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.graph import RELEASED, walk


@pytest.fixture
def no_collector():
    """Nothing here may need the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*shape):
    return Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)


def network(x, w1, w2, gamma, beta, targets):
    h = ops.relu(ops.batch_norm(ops.linear(x, w1), gamma, beta)[0])
    return ops.cross_entropy(ops.linear(h, w2), targets, True)


def ordinary_step(x, parameters, targets):
    for p in parameters:
        p.grad = None
    network(x, *parameters, targets).backward()
    for p in parameters:
        p.assign(p.numpy() - 0.01 * p.grad.numpy())


def penalty_step(x, parameters, targets):
    """A gradient penalty, as WGAN-GP's: the gradient's own gradient."""
    loss = network(x, *parameters, targets)
    (g,) = mg.grad(loss, parameters[0], create_graph=True)
    found = mg.grad(loss + (g * g).sum(), parameters)
    for p, d in zip(parameters, found):
        p.assign(p.numpy() - 1e-4 * d.numpy())


@pytest.mark.parametrize(("step", "count"), [(ordinary_step, 2000), (penalty_step, 300)], ids=["ordinary", "penalty"])
def test_memory_stays_flat(step, count, no_collector):
    rng = np.random.default_rng(0)
    x = Tensor(rng.normal(size=(8, 4)))
    parameters = [leaf(6, 4), leaf(3, 6), leaf(6), leaf(6)]
    targets = np.eye(3)[rng.integers(0, 3, 8)]
    for _ in range(5):
        step(x, parameters, targets)
    gc.collect()  # what importing and compiling kernels left behind
    before = len(gc.get_objects())
    for _ in range(count):
        step(x, parameters, targets)
    assert len(gc.get_objects()) - before <= 5
    assert gc.collect() == 0


def alive(tensor):
    """Weak references to every node behind a Tensor, and to the arrays they keep."""
    nodes = walk([tensor.edge])
    return [weakref.ref(a) for n in nodes for a in (n, *n.saved) if not isinstance(a, (float, int, str, type(None)))]


def test_dropping_the_loss_frees_the_graph(no_collector):
    x = leaf(4, 3)
    loss = ops.square(ops.batch_norm(ops.exp(x * 2))[0]).sum()
    held = alive(loss)
    assert len(held) > 8
    del loss
    assert [r() for r in held if r() is not None and r() is not x.data] == []


def test_errors_hold_no_graph(no_collector):
    x = leaf(4, 3)
    loss = ops.square(ops.exp(x)).sum()
    loss.backward()
    held = alive(loss.detach() + x.sum())
    with contextlib.suppress(mg.errors.GraphError):
        loss.backward()
    del loss
    assert [r() for r in held if r() is not None and r() is not x.data] == []


def test_backward_releases_what_was_kept(no_collector):
    x = leaf(4, 3)
    y = ops.exp(x)
    z = ops.square(y * 2).sum()
    kept = [weakref.ref(n.saved[0]) for n in walk([z.edge]) if n.op.name == "Square"]
    assert [k().shape for k in kept] == [(4, 3)]
    z.backward()
    assert kept[0]() is None
    assert all(n.saved is RELEASED or not n.saved or n.op.name == "Sum" for n in walk([z.edge]))


def test_second_order_graphs_are_freed_too(no_collector):
    x = leaf(4, 3)
    (g,) = mg.grad(ops.square(ops.batch_norm(x)[0]).sum(), x, create_graph=True)
    held = alive(g)
    assert len(held) > 10
    del g
    assert [r() for r in held if r() is not None and r() is not x.data] == []


def kept_by(y):
    return [None if a is None else tuple(a.shape) if isinstance(a, np.ndarray) else a for a in y.node.saved]


A, B, C = (3, 4), (4,), (2, 4)
FROZEN = [
    # operation, inputs as (shape, requires a gradient), what it keeps
    (ops.add, [(A, 1), (A, 1)], []),
    (ops.subtract, [(A, 1), (B, 1)], []),
    (ops.multiply, [(A, 1), (B, 1)], [A, B]),
    (ops.multiply, [(A, 1), (B, 0)], [None, B]),
    (ops.multiply, [(A, 0), (B, 1)], [A, None]),
    (ops.divide, [(A, 1), (A, 0)], [A, None]),
    (ops.divide, [(A, 0), (A, 1)], [A, A]),
    (ops.exp, [(A, 1)], [A]),
    (ops.relu, [(A, 1)], [A]),
    (ops.sum, [(A, 1)], []),
    (ops.matmul, [(A, 1), ((4, 2), 0)], [None, (4, 2)]),
    (ops.linear, [(A, 1), (C, 0), ((2,), 0)], [None, C]),
    (ops.linear, [(A, 0), (C, 1), ((2,), 1)], [A, None]),
    (ops.linear, [(A, 0), (C, 0), ((2,), 1)], [None, None]),
    (lambda x, w: ops.convolution(x, w, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
     [((1, 2, 3, 3), 1), ((2, 2, 2, 2), 0)], [None, (2, 2, 2, 2)]),
    (lambda x, w: ops.convolution(x, w, None, (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
     [((1, 2, 3, 3), 0), ((2, 2, 2, 2), 1)], [(1, 2, 3, 3), None]),
    (lambda *xs: ops.batch_norm(*xs)[0], [(A, 1), (B, 1), (B, 1)], [A, B, (1, 4), (1, 4)]),
    (lambda *xs: ops.batch_norm(*xs)[0], [(A, 0), (B, 1), (B, 1)], [A, None, (1, 4), (1, 4)]),
    (lambda *xs: ops.batch_norm(*xs)[0], [(A, 0), (B, 0), (B, 1)], [None, None, None, None]),
    (ops.batch_norm_inference, [(A, 1), (B, 0), (B, 0), (B, 0), (B, 0)], [None, None, B, B]),
    (lambda x: ops.max_pool(x, (2,), (2,), (0,), (1,))[0], [((1, 2, 4), 1)], [(1, 2, 2)]),
    (lambda x: ops.avg_pool(x, (2,), (2,), (0,)), [((1, 2, 4), 1)], [0.5]),
]


@pytest.mark.parametrize(("function", "inputs", "kept"), FROZEN, ids=lambda v: getattr(v, "__name__", ""))
def test_only_what_is_needed_is_kept(function, inputs, kept):
    rng = np.random.default_rng(0)
    xs = [Tensor(rng.uniform(1, 2, shape), requires_grad=bool(live)) for shape, live in inputs]
    y = function(*xs)
    if y.node.op.name == "Multiply" and kept == [0.5]:  # the factor of an average
        kept = [None, 0.5]
    assert kept_by(y) == kept


def test_nothing_is_kept_without_a_gradient():
    x = Tensor(np.ones(3))
    assert (x * x).node is None
    with mg.no_grad():
        assert (leaf(3) * 2).node is None


def test_kept_arrays_are_shared_not_copied():
    x = leaf(100, 100)
    y = ops.exp(x)
    z = y * y
    assert y.node.saved[0] is y.data
    assert all(a is y.data for a in z.node.saved)
