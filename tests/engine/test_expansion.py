"""Operations opened into their steps, and the proof that they equal them."""

import numpy as np
import pytest
from cases import CASES, as_tuple, relative

import minigrad as mg
from minigrad import Tensor, layers, ops
from minigrad.errors import ArgumentError, GraphError
from minigrad.expansion import expand, prove_equal, steps_of
from minigrad.gradcheck import GradientError
from minigrad.graph import walk
from minigrad.op import apply, value
from minigrad.ops.normalization_texts import BatchNorm, LayerNorm

X = np.random.default_rng(0).normal(size=(6, 3))


def snapshot(node):
    return [(n.op, n.edges, n.saved, n.seq, n.scope) for n in walk([node])]


def test_a_batch_norm_shows_its_steps_first_and_their_primitives_second():
    norm = layers.BatchNorm1d(3, dtype=np.float64)
    x = Tensor(X, requires_grad=True)
    y = norm(x * 2)
    before = snapshot(y.node)
    first = expand(y, depth=1)
    assert [part.name for part in first.parts] == ["moments", "inverse_std", "normalize", "scale_shift"]
    assert all(part.is_step and not part.parts for part in first.parts)
    full = expand(y)
    assert [part.name for part in full.parts] == [part.name for part in first.parts]
    for part in full.parts:
        assert [p.nodes for p in part.parts] == [(node,) for node in part.nodes]
        assert all(steps_of(node) == (part.name,) for node in part.nodes)
        assert not any(p.is_step for p in part.parts)
    assert str(first).splitlines()[2] == "  inverse_std: Add, Rsqrt"
    assert [line.strip() for line in str(full).splitlines()][-4:] == ["Reshape", "Multiply", "Reshape", "Add"]
    assert snapshot(y.node) == before  # the tape is as it was
    y.sum().backward()


def test_the_paths_through_the_steps_add_up_to_the_fused_gradient():
    x = Tensor(X, requires_grad=True)
    y = layers.BatchNorm1d(3, dtype=np.float64)(x)
    opened = expand(y)
    np.testing.assert_array_equal(opened.outputs[0].numpy(), y.numpy())
    u = np.random.default_rng(1).normal(size=X.shape)
    (wanted,) = mg.grad(y, x, u)
    parts = []

    class Paths(mg.Observer):
        def backward(self, node, output_gradients, input_gradients):
            parts.extend(np.asarray(g) for edge, g in zip(node.edges, input_gradients) if edge is opened.inputs[0])

    with mg.observe(Paths()):
        mg.grad(opened.outputs[0], opened.inputs[0], u)
    assert relative(sum(np.broadcast_to(p, X.shape) for p in parts), wanted.numpy()) <= 1e-13


@pytest.mark.parametrize("case", [c for c in CASES if c.order], ids=str)
def test_every_operation_opens_into_what_it_computes(case):
    xs = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in case.draw()]
    seen = []

    class Watch(mg.Observer):
        def forward(self, op, node, scope, inputs, outputs):
            seen.append((op, inputs, outputs))

    with mg.observe(Watch()):
        case.call(*xs)
    for op, inputs, outputs in seen:
        opened = expand(op, inputs)
        for found, wanted in zip(opened.outputs, outputs):
            np.testing.assert_array_equal(found.numpy(), wanted.numpy())
        assert opened.primitive == (not opened.parts)
    assert expand(ops.exp(Tensor(X, requires_grad=True))).primitive
    assert not expand(ops.gelu(Tensor(X, requires_grad=True))).primitive


def test_a_graph_that_no_longer_holds_an_input():
    norm = layers.BatchNorm1d(3, dtype=np.float64)
    x = Tensor(X, requires_grad=True)
    norm.bias.requires_grad_(False)  # neither saved nor a leaf of the graph
    y = norm(x)
    with pytest.raises(GraphError, match=r"BatchNorm.*in layer \(BatchNorm1d\).*input 2.*expand\(node, inputs\)"):
        expand(y)
    assert len(expand(y, [X, norm.weight, norm.bias]).parts) == 4
    z = layers.BatchNorm1d(3, affine=False)(x * 2)
    assert len(expand(z).parts) == 3  # here the graph knows that there was none
    z.sum().backward()
    with pytest.raises(GraphError, match="freed"):
        expand(z)
    w = layers.BatchNorm1d(3)
    y = w(x)
    w.weight.assign(3)
    with pytest.raises(GraphError, match="changed in place"):
        expand(y)


def test_wrong_arguments():
    with pytest.raises(ArgumentError, match="inputs"):
        expand(BatchNorm((0,), (1, 3), 1e-5))
    with pytest.raises(ArgumentError, match="depth"):
        expand(BatchNorm((0,), (1, 3), 1e-5), (X, None, None), depth=0)
    with pytest.raises(ArgumentError, match="a node"):
        expand(3)


NETS = {
    "batch": (lambda: layers.BatchNorm1d(3), (6, 3)),
    "evaluated": (lambda: layers.BatchNorm1d(3).eval(), (6, 3)),
    "group": (lambda: layers.GroupNorm(2, 4), (2, 4, 3)),
    "instance": (lambda: layers.InstanceNorm1d(2, affine=True), (2, 2, 4)),
    "layer": (lambda: layers.LayerNorm((3, 2)), (2, 3, 2)),
    "rms": (lambda: layers.RMSNorm(3), (4, 3)),
    "local response": (lambda: layers.LocalResponseNorm(3), (2, 4)),
    "a network": (lambda: layers.Sequential(layers.Conv2d(1, 2, 2), layers.BatchNorm2d(2), layers.GELU(),
                                            layers.MaxPool2d(2), layers.Flatten(), layers.Dropout(0.3),
                                            layers.Linear(2, 3), layers.LogSoftmax(1)), (3, 1, 3, 3)),
}


@pytest.mark.parametrize("name", NETS)
def test_layers_equal_their_steps(name, capsys):
    make, shape = NETS[name]
    layer = make()
    before = [b.numpy().copy() for b in layer.buffers()]
    proof = prove_equal(layer, np.random.default_rng(2).normal(size=shape))
    assert list(proof.differences) == ["values", "gradients on arrays", "gradients", "order 2", "order 3"]
    assert proof.equal
    assert max(proof.differences.values()) <= 1e-13
    assert capsys.readouterr().out == f"{proof}\n"
    for b, old in zip(layer.buffers(), before):
        np.testing.assert_array_equal(b.numpy(), old)  # a copy was proved


class Forgetful(BatchNorm):
    """Its backward uses the mean and rstd as numbers, as several frameworks do."""

    __slots__ = ()

    def backward(self, saved, needs, gy, *others):
        x, weight, mean, rstd = saved
        return super().backward((x, weight, value(mean), value(rstd)), needs, gy, *others)


class Backwards(LayerNorm):
    """Wrong at once."""

    __slots__ = ()

    def backward(self, saved, needs, gy, *others):
        gx, gw, gb = super().backward(saved, needs, gy, *others)
        return gx * 1.001, gw, gb


def test_an_operation_that_drops_the_history_of_its_statistics_is_caught():
    op = Forgetful((0,), (1, 3), 1e-5)
    proof = prove_equal(op, X, None, None, show=False, check=False)
    assert proof.differences["gradients"] <= 1e-13
    assert proof.differences["order 2"] > 1e-2
    assert not proof.equal
    with pytest.raises(GradientError, match=r"(?s)order 2 .*DIFFERS.*history"):
        prove_equal(op, X, None, None, show=False)
    proof = prove_equal(Backwards((1,), (3,), 1e-5), X, None, None, show=False, check=False)
    assert 1e-4 < proof.differences["gradients on arrays"] < 1e-2
    assert proof.differences["values"] == 0


def test_functions_and_several_inputs():
    rng = np.random.default_rng(3)
    arrays = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=3)
    assert prove_equal(lambda x, w, b: ops.layer_norm(x, 3, w, b) * w, *arrays, show=False).equal
    assert prove_equal(LayerNorm((1,), (3,), 1e-5), *arrays, show=False, orders=4).equal
    assert prove_equal(ops.sum, X, show=False).equal
    outputs = as_tuple(apply(LayerNorm((1,), (3,), 1e-5), *map(Tensor, arrays)))
    assert len(outputs) == 4


def test_what_is_not_a_number_is_no_proof():
    """Also where it is in both: Python's max would pass over it."""
    def function(x):
        return x * 2, ops.sqrt(x)

    with np.errstate(invalid="ignore"):
        proof = prove_equal(function, [[1.0, -1.0]], show=False, check=False)
    assert np.isnan(proof.differences["values"])
    assert not proof.equal


def test_recomputation_is_opened_to_what_it_runs():
    block = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4), layers.Dropout(0.5), layers.LayerNorm(4))
    x = Tensor(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), requires_grad=True)
    y = mg.recompute(block, x)
    expansion = expand(y)
    assert [part.name for part in expansion.parts] == ["Linear", "BatchNorm", "Dropout", "LayerNorm"]
    np.testing.assert_array_equal(expansion.outputs[0].numpy(), y.numpy())  # the same dropout mask
    assert block[1].num_batches_tracked.item() == 1
    proof = prove_equal(lambda x: mg.recompute(block.to("float64"), x), x, show=False)
    assert max(proof.differences.values()) < 1e-12
    with pytest.raises(GraphError, match="a parameter that has changed"):
        expand(y)  # it was of float32
    y = mg.recompute(block, Tensor(x.numpy().astype(np.float64), requires_grad=True))
    block[1].weight.assign(2)
    with pytest.raises(GraphError, match="changed"):
        expand(y)
