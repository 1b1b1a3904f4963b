"""What pictures show: a pure function of the graph."""

import time

import numpy as np
import pytest
from networks import ResNet50, recorded

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.errors import ArgumentError


@pytest.fixture(scope="module")
def graph():
    return recorded()[1].graph


@pytest.fixture(scope="module")
def deep():
    minigrad.manual_seed(0)
    model = ResNet50()
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32), name="x")
    with viz.record(model) as rec:
        F.cross_entropy(model(x), np.array([0, 1])).backward()
    return rec.graph


@pytest.fixture(scope="module")
def long():
    x = Tensor(np.ones(4), requires_grad=True, name="x")
    draw = np.random.default_rng(0)
    with viz.record() as rec:
        y = x
        for k in range(2500):
            y = y.sin() if draw.random() < 0.5 else y.tanh()
            y = y + (x if k % 50 == 0 else 0.5)
        y.sum().backward()
    return rec.graph


def titles(view):
    return [node.title for node in view.nodes if node.ops]


def test_closed_and_open(graph):
    assert titles(graph.view()) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "CrossEntropy"]
    opened = graph.view(opened=["bn1"])
    assert titles(opened) == ["Linear", "Mean", "Variance", "Rsqrt", "Normalize", "ScaleShift", "EMA update", "ReLU",
                              "Linear", "CrossEntropy"]
    assert [c.title for c in opened.clusters] == ["BatchNorm1d"]
    dashed = [e for e in opened.edges if e.kind == "update"]
    assert len(dashed) == 4
    cylinders = [n.title for n in opened.nodes if n.shape == "cylinder"]
    assert cylinders == ["running_mean", "running_var"]
    further = graph.view(opened=["bn1", "Mean"])
    assert "Mean" not in titles(further)
    assert "Variance" not in titles(further)
    assert {"Moments", "BatchNorm1d"} == {c.title for c in further.clusters}
    assert titles(graph.view(opened=["all"], closed=["bn1"]))[1] == "BatchNorm1d"


def test_every_edge_joins_two_nodes_that_are_there(graph):
    for opened in ([], ["steps"], ["all"]):
        view = graph.view(opened=opened)
        keys = [node.key for node in view.nodes]
        assert len(set(keys)) == len(keys)
        assert all(edge.source in keys and edge.target in keys for edge in view.edges)
        clusters = {c.key for c in view.clusters} | {""}
        assert all(node.cluster in clusters for node in view.nodes)


def test_the_graph_is_not_changed(graph):
    before = graph.to_json()
    graph.view(opened=["all"], hide=["ReLU"], focus="bn1")
    assert graph.to_json() == before


def test_the_main_path_is_marked(graph):
    spine = [edge for edge in graph.view(opened=["bn1"]).edges if edge.spine]
    named = {node.key: node.title for node in graph.view(opened=["bn1"]).nodes}
    assert ("Linear", "Normalize") in {(named[e.source], named[e.target]) for e in spine}
    assert len(spine) == 7


def test_turns_count_the_edges_that_a_gradient_passes(graph):
    for opened in ([], ["bn1"], ["all"]):
        turns = sorted(e.order[0] for e in graph.view(opened=opened).edges if e.order)
        assert turns == list(range(1, len(turns) + 1))
    view = graph.view()
    named = {node.key: node.title for node in view.nodes}
    order = [(named[e.target], named[e.source]) for e in sorted(view.edges, key=lambda e: e.order or (99,)) if e.order]
    assert order == [("loss", "CrossEntropy"), ("CrossEntropy", "Linear"), ("Linear", "ReLU"), ("ReLU", "BatchNorm1d"),
                     ("BatchNorm1d", "Linear")]


def test_hide_joins_what_went_through(graph):
    view = graph.view(hide=["act"])
    assert "ReLU" not in titles(view)
    named = {node.key: node.title for node in view.nodes}
    assert ("BatchNorm1d", "Linear") in {(named[e.source], named[e.target]) for e in view.edges if e.kind == "hidden"}


def test_focus_keeps_the_neighbourhood(graph):
    assert titles(graph.view(focus="bn1", radius=1)) == ["Linear", "BatchNorm1d", "ReLU"]


def test_focus_opens_what_is_around_it(graph):
    assert set(titles(graph.view(focus="Rsqrt", radius=1))) == {"Variance", "Rsqrt", "Normalize"}
    inside = {n.title for n in graph.view(focus="bn1", opened=["Mean"], radius=0).nodes}
    assert {"Sum", "Normalize"} <= inside
    assert "Linear" not in inside


def test_parameters_folded_or_drawn(graph):
    folded = graph.view()
    assert not any(node.kind == "param" for node in folded.nodes)
    assert ("params", "weight 7×5 · bias 7") in folded.nodes[0].rows
    drawn = graph.view(fold_params=False)
    assert sum(node.kind == "param" for node in drawn.nodes) == 6


def test_unknown_names_are_refused(graph):
    with pytest.raises(ArgumentError, match="there are fc1"):
        graph.view(opened=["nothing"])
    with pytest.raises(ArgumentError, match="phase"):
        graph.view(phase="sideways")


def test_a_deep_network_opens_with_few_nodes_and_fast(deep):
    started = time.process_time()  # of this process: the machine may have other work
    view = deep.view()
    if _can_draw():
        deep.svg()
    assert time.process_time() - started < 2
    assert len(titles(view)) <= 40
    assert any(node.times >= 3 for node in view.nodes)
    assert "Bottleneck" in {title.split(" × ")[-1] for title in titles(view)}
    held = deep.view(depth=0)
    assert len(titles(held)) < len(titles(view))
    assert len(titles(deep.view(depth=9, fold_repeats=False))) > 100


def test_five_thousand_operations_open_with_few_nodes_and_fast(long):
    assert len(long.top_level()) == 5001
    started = time.process_time()
    view = long.view()
    if _can_draw():
        long.svg()
    assert time.process_time() - started < 2
    assert len(titles(view)) <= 40
    chunk = next(node for node in view.nodes if node.openable)
    inside = long.view(opened=[chunk.key])
    assert 0 < len(titles(inside)) - len(titles(view)) <= 40


def test_repeats_are_folded():
    x = Tensor(np.ones(3), requires_grad=True)
    with viz.record() as rec:
        y = x
        for _ in range(5):
            y = (y * 2.0).sin()
        y.sum().backward()
    view = rec.graph.view(fold_repeats=True)
    assert titles(view) == ["5 × Multiply · Sin", "Sum"]
    opened = rec.graph.view(fold_repeats=True, opened=[view.nodes[0].key])
    assert titles(opened)[:2] == ["Multiply · Sin", "Multiply · Sin"]
    assert len(titles(rec.graph.view(fold_repeats=False))) == 11


def test_edges_into_a_closed_box_sum_their_gradients():
    """A shortcut: the gradient into the block is the norm of the sum of both ways, known exactly."""
    class Block(layers.Module):
        def forward(self, x):
            return x.sin() + x * 3.0

    block = Block()
    outer = layers.Sequential(block)
    x = Tensor(np.array([0.4, 2.0, 1.0]), requires_grad=True, name="x")
    with viz.record(outer) as rec:
        y = x * 1.0
        (outer(y) + y.exp()).sum().backward()
    view = rec.graph.view(closed=["0"], depth=0)
    (into,) = [e for e in view.edges if e.source == "o1" and e.target.startswith("m:")]
    assert into.gradient == pytest.approx(np.linalg.norm(np.cos([0.4, 2.0, 1.0]) + 3))


def _can_draw():
    from minigrad.viz.layout import RenderError, engine

    try:
        return bool(engine())
    except RenderError:
        return False
