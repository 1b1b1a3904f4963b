"""What is recorded is what ran: operations, edges, bytes, gradients, updates, failures."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import Net, batch, recorded

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.backend import is_array, memory
from minigrad.errors import GraphError, ShapeError, StateError
from minigrad.graph import walk
from minigrad.modes import current


def valid(graph):
    """Check the file format, against its schema where the package for that is installed."""
    held = json.loads(graph.to_json())
    if importlib.util.find_spec("jsonschema"):
        import jsonschema

        jsonschema.validate(held, viz.schema())
    again = viz.Graph.from_dict(held)
    assert again.to_json() == graph.to_json()
    return held


def test_operations_and_edges():
    model, rec = recorded()
    graph = rec.graph
    assert [op.op for op in graph.top_level()] == ["Linear", "BatchNorm", "ReLU", "Linear", "CrossEntropy"]
    names = {t.name for t in graph.tensors if t.kind == "param"}
    assert names == {name for name, _ in model.named_parameters()}
    linear, norm, *_ = graph.top_level()
    assert norm.inputs[0] == linear.outputs[0]
    assert graph.module[norm.module].path == "bn1"
    assert [graph.tensor[t].shape for t in norm.outputs] == [[6, 7], [1, 7], [1, 7], [1, 7]]
    valid(graph)


def test_bytes_held_are_those_the_engine_holds():
    """Every storage once, as `backend.memory` tells them apart."""
    minigrad.manual_seed(0)
    model = Net()
    x, target = batch()
    with viz.record(model) as rec:
        loss = F.cross_entropy(model(x), target)
        held = {}
        for node in walk([loss.edge]):
            for array in node.saved:
                if is_array(array):
                    owner = memory(array)[0]
                    held[id(owner)] = owner.nbytes
        loss.backward()
    assert sorted(rec.graph.held().values()) == sorted(held.values())
    parameters = sum(p.data.nbytes for name, p in model.named_parameters() if "weight" in name and name != "fc1.weight")
    assert rec.graph.held_bytes(parameters=True) == sum(held.values())
    assert rec.graph.held_bytes() == sum(held.values()) - parameters


def test_bytes_of_an_opened_node_are_the_same():
    _, rec = recorded()
    graph = rec.graph
    norm = graph.find("bn1")[0]
    parts = [graph.op[part] for part in norm.body]
    primitives = [graph.op[p] for step in parts for p in step.body]
    assert graph.held(parts) == graph.held([norm])
    assert graph.held(primitives) == graph.held([norm])


def test_gradients_of_leaves_and_edges_are_the_engines():
    model, rec = recorded()
    graph = rec.graph
    for name, p in model.named_parameters():
        row = next(t for t in graph.tensors if t.name == name)
        assert row.grad.norm == pytest.approx(np.linalg.norm(p.grad.numpy()), rel=1e-12)
        assert row.stats.mean == pytest.approx(p.numpy().mean(), rel=1e-9)
        assert sum(row.stats.hist or [p.size]) == p.size


def test_the_gradient_on_an_edge_is_the_one_through_that_edge():
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True, name="x")
    with viz.record(keep_partials=True) as rec:
        y = x * 3.0
        (y * y + y * 5.0).sum().backward()
    graph = rec.graph
    y = graph.top_level()[0].outputs[0]
    norms = {(u.op, u.arg): u.grad.norm for u in graph.uses if u.tensor == y}
    assert norms == pytest.approx({("o2", 0): np.hypot(3, 6), ("o2", 1): np.hypot(3, 6), ("o3", 0): np.hypot(5, 5)})
    total = sum(g for (op, arg), g in rec.partials.items() if (op, arg) in norms)
    assert np.allclose(total, 2 * np.array([3.0, 6.0]) + 5)
    # Two uses in one node of the picture: the norm of their sum, which norms alone would not give.
    row = graph.tensor[y]
    both = [row.gram_uses.index(k) for k, u in enumerate(graph.uses) if u.tensor == y and u.op == "o2"]
    assert sum(row.gram[i][j] for i in both for j in both) == pytest.approx(np.sum((2 * np.array([3.0, 6.0])) ** 2))


def test_the_order_of_backward_is_the_engines():
    seen = []

    class Order(minigrad.Observer):
        def backward(self, node, output_gradients, input_gradients):
            seen.append(node.op.name)

    model, target = Net(), batch()[1]
    with viz.record(model) as rec, minigrad.observe(Order()):
        F.cross_entropy(model(batch()[0]), target).backward()
    ran = sorted((op for op in rec.graph.top_level() if op.bwd_order), key=lambda op: op.bwd_order)
    assert [op.op for op in ran] == seen


def test_running_statistics_are_mutations_and_only_where_they_were_updated():
    model, rec = recorded()
    names = {rec.graph.tensor[m.tensor].name for m in rec.graph.mutations}
    assert names == {"bn1.running_mean", "bn1.running_var"}
    row = next(t for t in rec.graph.tensors if t.name == "bn1.running_mean")
    assert row.stats.mean == pytest.approx(model.bn1.running_mean.numpy().mean())
    assert recorded(Net().eval())[1].graph.mutations == []
    still = Net()
    still.bn1.running_mean = still.bn1.running_var = None
    assert recorded(still)[1].graph.mutations == []


def test_a_layer_called_twice_is_two_calls():
    model = layers.Linear(5, 5, dtype=np.float64)
    x, _ = batch()
    with viz.record(model) as rec:
        model(model(x)).sum().backward()
    assert [m.call for m in rec.graph.modules] == [1, 2]
    assert len(rec.graph.view().nodes) >= 4
    weight = next(t for t in rec.graph.tensors if t.name == "weight")
    assert weight.grad.norm == pytest.approx(np.linalg.norm(model.weight.grad.numpy()))


def test_backward_of_create_graph_is_recorded_apart():
    _, rec = recorded(create_graph=True)
    graph = rec.graph
    phases = [op.phase for op in graph.top_level()]
    assert set(phases) == {0, 1}
    assert [op.op for op in graph.top_level() if not op.phase] == ["Linear", "BatchNorm", "ReLU", "Linear",
                                                                   "CrossEntropy"]
    modules = {graph.module[op.module].path for op in graph.top_level() if op.phase and op.module}
    assert {"fc1", "bn1", "fc2"} <= modules
    valid(graph)
    assert any(node.title.startswith("∇") for node in graph.view(phase="backward").nodes)


def test_gradients_of_a_recorded_backward_are_named():
    model, rec = recorded(create_graph=True)
    view = rec.graph.view(phase="backward")
    said = " ".join(text for node in view.nodes for _, text in [("", node.title), *node.rows])
    for name, _ in model.named_parameters():
        assert f"∇ {name}" in said
    assert "∇ loss" in {node.title for node in view.nodes if node.shape == "ellipse"}


def test_a_recorded_backward_stands_straight_beside_its_forward():
    _, rec = recorded(create_graph=True)
    view = rec.graph.view()
    phase = {node.key: rec.graph.op[node.ops[0]].phase for node in view.nodes if node.ops}
    spines = [phase.get(e.source, phase.get(e.target)) for e in view.edges if e.spine]
    assert spines.count(0) >= 5
    assert spines.count(1) >= 3
    assert all(e.between == (phase[e.source] != phase[e.target]) for e in view.edges
               if e.source in phase and e.target in phase)
    assert any(e.between for e in view.edges)
    assert not any(e.between for e in view.edges if e.spine)


def test_double_backward():
    x = Tensor(np.array([[0.3, -0.2], [0.1, 0.5], [0.9, 0.4]]), requires_grad=True, name="x")
    with viz.record() as rec:
        (g,) = minigrad.grad(minigrad.ops.batch_norm(x)[0].sin().sum(), x, create_graph=True)
        (g * g).sum().backward()
    graph = rec.graph
    assert {op.phase for op in graph.top_level()} == {0, 1}
    assert graph.meta["backward_passes"] == 2
    row = next(t for t in graph.tensors if t.name == "x")
    assert row.grad.norm == pytest.approx(np.linalg.norm(x.grad.numpy()))
    assert graph.view().nodes


def test_a_failing_forward_gives_the_graph_so_far():
    model = layers.Sequential(layers.Linear(5, 4), layers.ReLU(), layers.Linear(3, 2))
    x, _ = batch(np.float32)
    rec = viz.record(model)
    with pytest.raises(ShapeError), rec:
        model(x)
    graph = rec.graph
    assert [op.op for op in graph.top_level()] == ["Linear", "ReLU", "Linear"]
    assert graph.top_level()[-1].kind == "error"
    assert graph.meta["error"]["type"] == "ShapeError"
    valid(graph)
    (failed,) = [node for node in graph.view().nodes if node.kind == "error"]
    assert failed.path == "2"
    assert any(edge.target == failed.key for edge in graph.view().edges)
    assert "stopped by ShapeError" in graph.summary()


def test_a_failing_operation_outside_layers():
    x = Tensor(np.ones((2, 3)), requires_grad=True)
    rec = viz.record()
    with pytest.raises(ShapeError), rec:
        (x * 2.0) @ x
    assert [op.op for op in rec.graph.top_level()] == ["Multiply", "MatMul"]
    assert len(rec.graph.view().edges) == 3


def test_trace_sees_what_the_tape_holds():
    minigrad.manual_seed(0)
    model = Net()
    x, target = batch()
    loss = F.cross_entropy(model(x), target)
    graph = viz.trace(loss, model)
    assert [op.op for op in graph.top_level()] == ["Linear", "BatchNorm", "ReLU", "Linear", "CrossEntropy"]
    assert all(p.grad is None for p in model.parameters())
    _, rec = recorded()
    whole = {(u.op, u.arg): u.grad.norm for u in rec.graph.uses if u.grad and "." not in u.op}
    traced = {(u.op, u.arg): u.grad.norm for u in graph.uses if u.grad and "." not in u.op}
    assert traced == pytest.approx(whole)
    assert sorted(graph.held().values()) == sorted(rec.graph.held().values())
    assert [s.op for s in map(graph.op.get, graph.find("bn1")[0].body)] == ["Mean", "Variance", "Rsqrt", "Normalize",
                                                                           "ScaleShift"]
    valid(graph)
    loss.backward()  # nothing was freed
    assert "bn1" in graph.summary()


def test_trace_calls_no_hook_and_needs_a_result():
    x = Tensor(np.ones(3), requires_grad=True)
    y = x * 2.0
    y.retain_grad()
    viz.trace(y.sum())
    assert y.grad is None
    with pytest.raises(GraphError, match="no recorded operation"):
        viz.trace(x)


def test_ids_and_files_are_the_same_every_time():
    code = ("import sys; sys.path.insert(0, sys.argv[1])\nfrom networks import recorded\n"
            "print(recorded(times=False)[1].graph.to_json())")
    run = [sys.executable, "-c", code, str(Path(__file__).parents[1])]
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True, cwd=sys.prefix).stdout
                     for _ in range(2))
    assert first == second


def test_recording_changes_nothing():
    x, target = batch()
    grads = []
    for watched in (False, True):
        minigrad.manual_seed(0)
        model = Net()
        if watched:
            with viz.record(model, expand="all"):
                F.cross_entropy(model(x), target).backward()
        else:
            F.cross_entropy(model(x), target).backward()
        grads.append([p.grad.numpy() for p in model.parameters()] + [model.bn1.running_var.numpy(),
                                                                     minigrad.randn(3).numpy()])
        assert current().observers == ()
        assert not any(layer._hooks or layer._pre_hooks for layer in model.modules())
    assert all(np.array_equal(a, b) for a, b in zip(*grads))


def test_a_graph_is_freed_inside_the_block():
    import weakref

    x = Tensor(np.ones(1000), requires_grad=True)
    with viz.record(expand=False):
        y = (x * 2.0).sin()
        node = weakref.ref(y.node)
        del y
        assert node() is None


def test_deep_chains_and_not_a_number():
    x = Tensor(np.array([1.0, 0.0]), requires_grad=True)
    with viz.record() as rec, np.errstate(all="ignore"):
        y = x
        for _ in range(3000):
            y = y + 1.0
        (y * float("nan")).sum().backward()
    graph = rec.graph
    valid(graph)
    assert len(graph.top_level()) == 3002
    assert any(t.stats and t.stats.nonfinite for t in graph.tensors)
    assert len(viz.trace(y.sum()).ops) == 3001


def test_files_of_other_formats_are_refused(tmp_path):
    with pytest.raises(StateError, match=r"minigrad\.graph/1"):
        viz.Graph.from_dict({"schema": "else"})
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(StateError, match="not JSON"):
        viz.Graph.load(path)
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "minigrad.graph/1"}, viz.schema())
