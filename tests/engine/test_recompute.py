"""Gradient checkpointing: what is computed again is what was computed, and nothing is counted twice."""

import copy
import tracemalloc

import numpy as np
import pytest

import minigrad as mg
from minigrad import Generator, Tensor, functional, layers
from minigrad.errors import DtypeError, GraphError

X = np.random.default_rng(0).normal(size=(6, 4))


def net(generator=None):
    mg.manual_seed(1)
    return layers.Sequential(layers.Linear(4, 5, bias=False), layers.BatchNorm1d(5),
                             layers.Dropout(0.4, generator=generator), layers.Tanh(), layers.Linear(5, 2)).to("float64")


def run(block, use, order=1):
    """Values, derivatives up to an order, buffers, and where the generator stands, of two calls and one backward."""
    mg.manual_seed(3)
    x = Tensor(X, requires_grad=True)
    call = mg.recompute if use else lambda f, *args: f(*args)
    y, z = call(block, x), call(block, x * 2)
    s = (y * y * y).sum() + (z * z).sum() * y.sum()
    leaves = [x, *block.parameters()]
    found = [y.numpy(), z.numpy(), *(b.numpy().copy() for b in block.buffers())]
    for _ in range(order):
        g = mg.grad(s, leaves, create_graph=order > 1, retain_graph=True)
        found += [a.numpy() for a in g]
        s = sum((a * a).sum() for a in g)
    return found, mg.ops.random.default_generator.get_state()


@pytest.mark.parametrize("order", [1, 3])
def test_everything_is_as_without(order):
    found, state = run(net(), True, order)
    wanted, other = run(net(), False, order)
    assert state == other
    assert len(found) == len(wanted)
    for f, w in zip(found, wanted):
        if order == 1:
            np.testing.assert_array_equal(f, w)
        else:
            np.testing.assert_allclose(f, w, rtol=1e-9, atol=1e-9 * np.abs(w).max())


def test_statistics_are_committed_once():
    block, x = net(), Tensor(X, requires_grad=True)
    y = mg.recompute(block, x)
    before = [b.numpy().copy() for b in block.buffers()]
    assert block[1].num_batches_tracked.item() == 1
    y.sum().backward()
    for b, old in zip(block.buffers(), before):
        np.testing.assert_array_equal(b.numpy(), old)


def test_a_generator_of_ones_own_is_replayed_and_goes_on():
    found = []
    for use in (True, False):
        generator = Generator(7)
        block = net(generator)
        found.append((run(block, use)[0], generator.stream().random()))
    for f, w in zip(found[0][0], found[1][0]):
        np.testing.assert_array_equal(f, w)
    assert found[0][1] == found[1][1]
    copied = copy.deepcopy(generator)
    x = Tensor(np.ones((8, 8)), requires_grad=True)
    y = mg.recompute(lambda x: functional.dropout(x, 0.5, generator=copied), x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_what_is_taken_from_outside_gets_its_gradient():
    """A parameter, a result of other operations, and one result that another depends on."""
    def gradients(call):
        a = Tensor(np.array([1.5, -2.0]), requires_grad=True)
        b = a * 3
        c = b * b
        x = Tensor(np.array([0.3, 0.7]), requires_grad=True)
        y = call(lambda x: (x * b + c * a, x * c), x * a)
        s = (y[0] * y[1]).sum() + b.sum()
        first = mg.grad(s, [a, x], create_graph=True)
        return [*first, *mg.grad((first[0] * first[1]).sum(), [a, x])]

    for found, wanted in zip(gradients(mg.recompute), gradients(lambda f, *args: f(*args))):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-13)


def test_parameters_that_have_changed_are_refused():
    block = net()
    y = mg.recompute(block, Tensor(X, requires_grad=True))
    block[0].weight.assign(block[0].weight.numpy() * 2)
    with pytest.raises(GraphError, match=r"Recompute\(Sequential\).*changed in place"):
        y.sum().backward()


@pytest.mark.parametrize("change", ["buffer", "frozen parameter", "mode"])
def test_other_changes_are_refused(change):
    block = net()
    block[0].weight.requires_grad_(change != "frozen parameter")
    block.train(change == "mode")
    y = mg.recompute(block, Tensor(X, requires_grad=True))
    if change == "buffer":
        block[1].train()(Tensor(np.ones((3, 5))))
        block.eval()
    elif change == "frozen parameter":
        block[0].weight.assign(0)
    else:
        block.eval()
    with pytest.raises(GraphError, match=r"recompute of Sequential.*(changed|other operations)"):
        y.sum().backward()


def test_results_of_several_kinds_and_arguments_of_several_kinds():
    x = Tensor(X, requires_grad=True)

    def function(x, factor, y=None, flag=False):
        return x * factor, x > 0, (x + y if flag else x)

    y = Tensor(X, requires_grad=True)
    outputs = mg.recompute(function, x, 3.0, y=y, flag=True)
    assert isinstance(outputs, tuple)
    assert outputs[1].dtype == bool
    assert not outputs[1].requires_grad
    (outputs[0].sum() + outputs[2].sum()).backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(X.shape, 4.0))
    np.testing.assert_array_equal(y.grad.numpy(), np.ones(X.shape))
    x.grad = None
    mg.recompute(function, x, 2.0, flag=False)[0].sum().backward()  # one result without a gradient
    np.testing.assert_array_equal(x.grad.numpy(), np.full(X.shape, 2.0))
    with pytest.raises(DtypeError, match="float"):
        mg.recompute(lambda x: 1.0, x)


def test_without_recording_it_is_a_plain_call():
    with mg.no_grad():
        assert not mg.recompute(net(), Tensor(X)).requires_grad
    assert not mg.recompute(lambda x: x + 1, Tensor(X)).requires_grad
    y = mg.recompute(lambda x: x * 2, Tensor(X, requires_grad=True))
    y.sum().backward(retain_graph=True)
    y.sum().backward()


def test_jvp_and_nesting():
    block = net().eval()

    def twice(x):
        return mg.recompute(lambda z: mg.recompute(block, z) * 2, x)

    x, v = Tensor(X), Tensor(np.ones(X.shape))
    _, found = mg.jvp(twice, x, v)
    _, wanted = mg.jvp(lambda z: block(z) * 2, x, v)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-13)


def test_less_is_held():
    def chain(x):
        for _ in range(30):
            x = mg.tanh(x)
        return x

    held = []
    for call in (mg.recompute, lambda f, x: f(x)):
        x = Tensor(np.ones(100_000), requires_grad=True)
        tracemalloc.start()
        y = call(chain, x)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        y.sum().backward()
    assert held[0] < 1.5e6 < 20e6 < held[1]
