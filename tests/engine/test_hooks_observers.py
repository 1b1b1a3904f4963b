"""Hooks see the total gradient of a Tensor once; observers see every operation, and the gradient along every edge."""

import gc
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.errors import DtypeError, GraphError, ShapeError
from minigrad.graph import hooks
from minigrad.modes import current


def leaf(*values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


# ------------------------------------------------------------------ hooks


@pytest.mark.parametrize("of", ["leaf", "result"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_sees_the_total_once(of, create_graph):
    x = leaf(1, 2)
    y = x * 1
    seen = []
    (x if of == "leaf" else y).register_hook(lambda g: seen.append(g.tolist()))
    z = (y * y).sum() + (y * 3).sum() + y.sum()
    mg.grad(z, x, create_graph=create_graph)
    assert seen == [[6, 8]]


@pytest.mark.parametrize("of", ["leaf", "result"])
def test_a_hook_may_replace_the_gradient(of):
    x = leaf(1, 2)
    y = x * 2
    (x if of == "leaf" else y).register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    assert x.grad.tolist() == [80, 160]


def test_hooks_run_in_order_each_on_what_the_one_before_returned():
    x = leaf(1.0)
    x.register_hook(lambda g: g + 1)
    x.register_hook(lambda g: g * 10)
    (x * 3).backward()
    assert x.grad.item() == 40


def test_a_replacement_can_be_differentiated():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * x)
    (g,) = mg.grad(y, x, create_graph=True)  # 2x·x
    assert g.item() == 8
    assert mg.grad(g, x)[0].item() == 8


def test_hooks_of_second_outputs():
    x = Tensor(np.random.default_rng(0).normal(size=(4, 2)), requires_grad=True)
    y, mean, variance, _ = ops.batch_norm(x)
    seen = []
    variance.register_hook(lambda g: seen.append(("variance", g.shape)))
    mean.register_hook(lambda g: seen.append(("mean", g.shape)))
    (y.sum() + variance.sum()).backward()
    assert seen == [("variance", (1, 2))]


def test_removal():
    x = leaf(1.0)
    calls = []
    remove = x.register_hook(lambda g: calls.append(1))
    other = x.register_hook(lambda g: calls.append(2))
    x.sum().backward()
    remove()
    remove()
    x.sum().backward()
    other()
    x.sum().backward()
    assert calls == [1, 2, 2]


def test_hooks_go_with_their_tensor():
    gc.collect()
    before = len(hooks)
    x = leaf(1.0)
    y = x * 2
    x.register_hook(lambda g: None)
    y.retain_grad()
    assert len(hooks) == before + 2
    del x, y
    assert len(hooks) == before
    z = leaf(1.0)
    z.register_hook(lambda g: None)()
    assert len(hooks) == before


def test_a_hook_that_refers_to_its_own_tensor_is_garbage_with_it():
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g, y=y: y)
    x.register_hook(lambda g, x=x: x)
    node, before = weakref.ref(y.node), len(hooks)
    del x, y
    gc.collect()
    assert node() is None
    assert len(hooks) == before - 2


def test_a_removal_outlives_its_tensor():
    remove = leaf(1.0).register_hook(lambda g: None)
    gc.collect()
    remove()
    assert not hooks


@pytest.mark.parametrize(("hook", "error", "said"), [
    (lambda g: g.reshape(1, 2), ShapeError, r"gradient hook: got a gradient of shape \(1, 2\); wanted \(2,\)"),
    (lambda g: g.numpy() * 2, DtypeError, r"gradient hook: got a gradient of type ndarray; wanted a Tensor or None"),
], ids=["shape", "array"])
def test_a_replacement_must_fit(hook, error, said):
    x = leaf(1, 2)
    x.register_hook(hook)
    with pytest.raises(error, match=said):
        x.sum().backward()
    assert x.grad is None


def test_hooks_need_a_gradient():
    with pytest.raises(GraphError, match="register_hook"):
        Tensor([1.0]).register_hook(print)


def test_retain_grad():
    x = leaf(1, 2)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward(retain_graph=True)
    assert y.grad.tolist() == [6, 12]
    (y * 1).sum().backward()
    assert y.grad.tolist() == [7, 13]  # it accumulates, as a leaf's does
    x.retain_grad()
    x.sum().backward()
    assert x.grad.tolist() == [22, 40]


def test_retain_grad_is_for_backward_alone():
    x = leaf(1, 2)
    y = x * 3
    y.retain_grad()
    mg.grad((y * y).sum(), x)
    assert y.grad is None


def test_retain_grad_sees_what_later_hooks_return():
    x = leaf(1, 2)
    y = x * 3
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert y.grad.tolist() == [10, 10]


def test_retain_grad_needs_a_gradient():
    with pytest.raises(GraphError, match="retain_grad: got a Tensor that does not require a gradient"):
        Tensor([1.0]).retain_grad()


def test_retain_grad_fills_nothing_when_backward_fails():
    x = leaf(1, 2)
    early = x * x
    y = early * 3
    y.retain_grad()
    x.assign(0)
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()
    assert y.grad is x.grad is None


# ------------------------------------------------------------------ observers


class Recorder(mg.Observer):
    def __init__(self):
        self.events = []

    def forward(self, op, node, scope, inputs, outputs):
        self.events.append(("forward", op.name, node is not None, [y.shape for y in outputs]))

    def backward(self, node, output_gradients, input_gradients):
        shapes = [None if g is None else tuple(g.shape) for g in input_gradients]
        self.events.append(("backward", node.op.name, shapes, [None if g is None else np.asarray(g).tolist()
                                                               for g in input_gradients]))


def test_observers_see_both_passes():
    x, w = leaf(1, 2), Tensor(np.ones((3, 2)))
    recorder = Recorder()
    with mg.observe(recorder):
        y = (x * w).sum()
        y.backward()
    y = x * 2  # nobody watches
    assert recorder.events == [
        ("forward", "Multiply", True, [(3, 2)]),
        ("forward", "Sum", True, [()]),
        ("backward", "Sum", [(3, 2)], [np.ones((3, 2)).tolist()]),
        ("backward", "Multiply", [(2,), None], [[3, 3], None]),  # after un-broadcasting
    ]


def test_partial_gradients_of_every_edge():
    """A hook sees 2·3 + 4 in one sum; an observer sees the two ways by which they came."""
    x = leaf(3.0)
    recorder = Recorder()
    with mg.observe(recorder):
        a, b = x * x, x * 4
        (a + b).backward()
    partial = {name: values for kind, name, _, values in recorder.events if kind == "backward" and name == "Multiply"}
    seen = [values for kind, name, _, values in recorder.events if kind == "backward" and name == "Multiply"]
    assert seen == [[[4], None], [[3], [3]]]
    assert len(partial) == 1
    assert x.grad.item() == 10


@pytest.mark.parametrize("create_graph", [False, True])
def test_partial_gradients_add_up_to_the_total(create_graph):
    x = Tensor(np.random.default_rng(0).normal(size=(4, 3)), requires_grad=True)
    totals = {}

    class Sums(mg.Observer):
        def backward(self, node, output_gradients, input_gradients):
            for edge, g in zip(node.edges, input_gradients):
                if edge is x:
                    totals[id(x)] = totals.get(id(x), 0) + np.asarray(g)

    with mg.observe(Sums()):
        y = (x * x).sum() + (ops.batch_norm(x)[0] * x).sum() + (x * 2)[1:].sum()
        (g,) = mg.grad(y, x, create_graph=create_graph)
    np.testing.assert_allclose(totals[id(x)], g.numpy(), rtol=1e-14)


def test_observers_see_operations_that_are_not_recorded():
    recorder = Recorder()
    with mg.observe(recorder), mg.no_grad():
        leaf(1.0) * 2
        ops.exp(np.ones(2))  # arrays alone are no operation of a graph
    assert recorder.events == [("forward", "Multiply", False, [(1,)])]


def test_observers_nest():
    outer, inner = Recorder(), Recorder()
    with mg.observe(outer):
        leaf(1.0) * 2
        with mg.observe(inner):
            leaf(1.0) + 2
    assert [e[1] for e in outer.events] == ["Multiply", "Add"]
    assert [e[1] for e in inner.events] == ["Add"]


def test_an_observer_may_be_made_outside_the_block_of_another():
    outer, inner = Recorder(), Recorder()
    within = mg.observe(inner)

    @mg.observe(inner)
    def decorated():
        leaf(1.0) - 2

    with mg.observe(outer), within:
        leaf(1.0) * 2
    with mg.observe(outer):
        decorated()
    assert [e[1] for e in outer.events] == [e[1] for e in inner.events] == ["Multiply", "Subtract"]


@pytest.mark.parametrize("create_graph", [False, True])
def test_what_an_observer_computes_is_not_observed(create_graph):
    class Norms(mg.Observer):
        def __init__(self):
            self.seen = []

        def forward(self, op, node, scope, inputs, outputs):
            square = (outputs[0] * outputs[0]).sum()
            assert not square.requires_grad
            self.seen.append(square.item())

        def backward(self, node, output_gradients, input_gradients):
            if not create_graph:
                self.seen.append((Tensor(input_gradients[0]) * 2).sum().item())

    x, norms = leaf(1, 2), Norms()
    with mg.observe(norms):
        y = (x * x).sum()
        assert norms.seen == [17, 25]
        mg.grad(y, x, create_graph=create_graph)
    assert create_graph or norms.seen == [17, 25, 4, 6]


def test_without_observers_and_hooks_nobody_is_asked():
    assert current().observers == ()
    recorder = Recorder()
    with mg.observe(recorder):
        assert current().observers == (recorder,)
    assert current().observers == ()
    remove = (x := leaf(1.0)).register_hook(lambda g: None)
    assert hooks
    remove()
    del x
    gc.collect()
    assert not hooks


def test_an_observer_that_fails_leaves_the_mode_as_it_was():
    class Fails(mg.Observer):
        def backward(self, node, output_gradients, input_gradients):
            raise KeyError("no")

    x = leaf(1.0)
    with pytest.raises(KeyError), mg.observe(Fails()):
        (x * x).backward()
    assert current().observers == ()
    assert mg.is_grad_enabled()
    assert (x * x).requires_grad
