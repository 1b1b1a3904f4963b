"""Opened operations: the partial gradients on the ways in sum to the operation's own input gradient, as arrays."""

import numpy as np
import pytest
from cases import CASES
from networks import recorded

import minigrad
import minigrad.functional as F
from minigrad import Tensor, viz
from minigrad.backend import is_array, memory
from minigrad.graph import walk

OPS = {
    "batch_norm": lambda x, w, b: minigrad.ops.batch_norm(x, w, b)[0],
    "batch_norm with all outputs": lambda x, w, b: sum((t * t).sum() for t in minigrad.ops.batch_norm(x, w, b)),
    "layer_norm": lambda x, w, b: minigrad.ops.layer_norm(x, 4, w, b),
    "masked": lambda x, w, b: minigrad.ops.batch_norm(x, w, b, mask=np.arange(6).reshape(6, 1) < 4)[0],
    "group_norm": lambda x, w, b: minigrad.ops.group_norm(minigrad.expand_dims(x, 2) * np.arange(1.0, 4, dtype=x.dtype),
                                                          2, w, b).sum(2),
    "instance_norm": lambda x, w, b: (minigrad.ops.instance_norm(minigrad.expand_dims(x, 2) * np.array(
        [1.0, -2.0, 4.0], x.dtype), w, b)[0] * np.array([1.0, 2.0, 5.0], x.dtype)).sum(2),
    "rms_norm": lambda x, w, b: minigrad.ops.rms_norm(x, 4, w) + b,
    "local_response_norm": lambda x, w, b: minigrad.ops.local_response_norm(x * w + b, 3, alpha=0.5),
    "evaluation": lambda x, w, b: minigrad.ops.batch_norm_inference(x, np.full(4, 0.1), np.full(4, 2.0), w, b),
    "softmax": lambda x, w, b: minigrad.softmax(x * w + b, 1),
    "log_softmax": lambda x, w, b: minigrad.log_softmax(x * w + b, 1),
    "cross_entropy": lambda x, w, b: F.cross_entropy(x * w + b, np.array([0, 3, 2, 1, 1, 0])),
    "gelu": lambda x, w, b: F.gelu(x * w + b),
}


def levels(graph, op):
    """The parts of an operation: first its steps, then what is in them, and so on."""
    parts = [graph.op[p] for p in op.body]
    while parts:
        yield parts
        if not any(part.body for part in parts):
            return
        parts = [graph.op[p] for p in dict.fromkeys(p for part in parts for p in part.body or [part.id])]


def sums_checked(rec, tolerance):
    """Compare, at every level of every opened operation, the sum over the ways in with the operation's own gradient."""
    graph, checked = rec.graph, 0
    for op in graph.top_level():
        for parts in levels(graph, op):
            inside = {t for part in parts for t in part.outputs}
            for arg, tensor in enumerate(op.inputs):
                whole = rec.partials.get((op.id, arg))
                if whole is None or tensor in inside or op.inputs.count(tensor) > 1:
                    continue
                found = [rec.partials[part.id, k] for part in parts for k, t in enumerate(part.inputs)
                         if t == tensor and (part.id, k) in rec.partials]
                error = np.abs(sum(found) - whole).max(initial=0) / max(np.abs(whole).max(initial=0), 1e-30)
                assert error < tolerance, (op.op, arg, error)
                checked += 1
    return checked


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", OPS)
def test_partial_gradients_sum_to_the_input_gradient(name, dtype):
    draw = np.random.default_rng(0)
    x, w, b = (Tensor(draw.standard_normal(s).astype(dtype), requires_grad=True, name=n)
               for n, s in (("x", (6, 4)), ("w", 4), ("b", 4)))
    weights = draw.standard_normal((6, 4)).astype(dtype)
    with viz.record(keep_partials=True, expand="all") as rec:
        y = OPS[name](x, w, b)
        (y * weights if y.ndim else y).sum().backward()
    assert sums_checked(rec, 1e-11 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("case", [c for c in CASES if c.order], ids=str)
def test_every_operation_opens_into_parts_whose_gradients_sum_to_its_own(case):
    """As far as its text runs on Tensors: what writes into arrays is a primitive."""
    draw = np.random.default_rng(0)
    arrays = [each.draw(draw, each.shape) for each in case.inputs]
    leaves = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    with viz.record(keep_partials=True, expand="all") as rec:
        made = case.call(*leaves)
        made = [y for y in (made if isinstance(made, tuple) else (made,)) if y.requires_grad]
        sum((y * np.cos(np.arange(float(y.size)).reshape(y.shape))).sum() for y in made).backward()
    sums_checked(rec, 1e-9)
    assert all(leaf.grad is not None for leaf in leaves if leaf.requires_grad)


def attend(q, k, v, mask=None, kept=None):
    """Both outputs of attention are used, so that gradients come through the weights as well."""
    y, weights = minigrad.ops.attention(q, k, v, mask, kept, p=0.5 if kept is not None else 0.0)
    return (y * np.cos(np.arange(float(y.size)).reshape(y.shape))).sum() + (weights * weights).sum()


@pytest.mark.parametrize("mask", [None, np.tril(np.ones((4, 5), bool)), np.linspace(-1, 1, 20).reshape(4, 5)],
                         ids=["no mask", "bools", "numbers"])
@pytest.mark.parametrize("drop", [False, True], ids=["all kept", "dropout"])
def test_attention_opens_into_scores_softmax_and_sum(mask, drop):
    draw = np.random.default_rng(0)
    q, k, v = (Tensor(draw.standard_normal(s), requires_grad=True, name=n)
               for n, s in (("q", (2, 4, 3)), ("k", (2, 5, 3)), ("v", (2, 5, 6))))
    with viz.record(keep_partials=True) as rec:
        attend(q, k, v, mask, draw.random((2, 4, 5)) < 0.5 if drop else None).backward()
    graph = rec.graph
    attention = graph.find("Attention")[0]
    scores, softmax, total = (graph.op[p] for p in attention.body)
    assert [scores.op, softmax.op, total.op] == ["Scores", "Softmax", "WeightedSum"]
    assert set(scores.inputs) >= set(attention.inputs[:2])
    assert softmax.outputs == [attention.outputs[1]]
    assert set(total.inputs) >= {attention.outputs[1], attention.inputs[2]}
    assert all(step.body for step in (scores, softmax))
    assert sums_checked(rec, 1e-11) >= 6


def test_attention_inside_a_layer_and_with_the_engines_bytes():
    minigrad.manual_seed(0)
    layer = minigrad.layers.MultiheadAttention(6, 2, batch_first=True, dtype=np.float64)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 4, 6)), requires_grad=True, name="x")
    with viz.record(layer, keep_partials=True) as rec:
        y, weights = layer(x, x, x)
        loss = (y * y).sum() + (weights * weights).sum()
        held = {id(memory(a)[0]): memory(a)[0].nbytes for node in walk([loss.edge]) for a in node.saved if is_array(a)}
        loss.backward()
    graph = rec.graph
    assert sorted(graph.held().values()) == sorted(held.values())
    attention = graph.find("Attention")[0]
    parts = [graph.op[p] for p in attention.body]
    assert len(parts) == 3
    assert graph.held(parts) == graph.held([attention])
    assert sums_checked(rec, 1e-11)
    assert "Split" not in {op.op for op in graph.top_level() if not graph.tensor[op.outputs[0]].grad}
    assert {"Scores", "Softmax", "WeightedSum"} <= {n.title for n in graph.view(opened=["Attention"]).nodes}


def test_batchnorm_has_three_ways_in():
    _, rec = recorded(keep_partials=True)
    graph = rec.graph
    norm = graph.find("bn1")[0]
    steps = [graph.op[p] for p in norm.body]
    assert [s.op for s in steps] == ["Mean", "Variance", "Rsqrt", "Normalize", "ScaleShift"]
    ways = {s.op: rec.partials[s.id, k] for s in steps for k, t in enumerate(s.inputs)
            if t == norm.inputs[0] and (s.id, k) in rec.partials}
    assert set(ways) == {"Mean", "Variance", "Normalize"}
    # Through the mean a channel's gradient is the same for every example; through the variance it is along x̂.
    assert np.allclose(ways["Mean"], ways["Mean"][:1])
    x = graph.tensor[norm.inputs[0]]
    assert x.shape == [6, 7]
    assert abs(ways["Variance"].sum(0)).max() < 1e-14
    assert np.allclose(sum(ways.values()), rec.partials[norm.id, 0], rtol=1e-12, atol=1e-15)


def test_steps_meet_only_at_their_outputs():
    _, rec = recorded()
    graph = rec.graph
    norm = graph.find("bn1")[0]
    mean, variance, rstd, normalize, shift = (graph.op[p] for p in norm.body)
    assert mean.group == variance.group
    assert mean.outputs == [norm.outputs[1]]
    assert variance.outputs == [norm.outputs[2]]
    assert rstd.inputs == [norm.outputs[2]]
    assert normalize.inputs == [norm.inputs[0], norm.outputs[1], norm.outputs[3]]
    assert shift.outputs == [norm.outputs[0]]
    assert graph.op[norm.body[2]].body == [op.id for op in graph.ops if op.parent == rstd.id]


def test_primitives_know_their_line():
    _, rec = recorded()
    texts = {op.text for op in rec.graph.ops if op.id.startswith("o2.") and op.body == []}
    assert "return (x - mean) * rstd" in texts


def test_what_cannot_be_opened_is_left_closed():
    x = Tensor(np.ones((2, 1, 5, 5)), requires_grad=True)
    w = Tensor(np.ones((2, 1, 3, 3)), requires_grad=True)
    with viz.record(expand="all") as rec:
        F.conv2d(x, w).sum().backward()
    assert all(not op.body for op in rec.graph.top_level() if op.op == "Convolution")


def test_without_backward_the_parts_are_there_without_gradients():
    _, rec = recorded(backward=False)
    norm = rec.graph.find("bn1")[0]
    assert len(norm.body) == 5
    assert not any(u.grad for u in rec.graph.uses)


def test_opening_can_be_left_out_and_limited():
    assert not any(op.body for op in recorded(expand=False)[1].graph.ops)
    assert sum(bool(op.body) for op in recorded(most_bodies=1)[1].graph.top_level()) == 1
