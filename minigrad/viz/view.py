"""What a picture shows of a graph: a pure function from the graph and some wishes to nodes, edges and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from minigrad.viz.choice import chosen, matching
from minigrad.viz.items import draw
from minigrad.viz.scene import Edge, Node, View
from minigrad.viz.tree import Box

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["around", "make_view", "trimmed", "without"]


def make_view(graph: Graph, depth: int | None = None, opened: Sequence[str] = (), closed: Sequence[str] = (),
              fold_repeats: bool | None = None, fold_params: bool = True, hide: Sequence[str] = (),
              focus: str | None = None, radius: int = 2, max_nodes: int = 40, phase: str = "all") -> View:
    """See `Graph.view`."""
    choice = chosen(graph, depth, opened, closed, fold_repeats, max_nodes, phase, focus)
    return trimmed(draw(graph, choice, fold_params), choice.root, hide, focus, radius)


def trimmed(view: View, root: Box, hide: Sequence[str], focus: str | None, radius: int) -> View:
    """The view without what is to be hidden, or of the neighbourhood of the focus alone."""
    hidden = {box.key for name in hide for box in matching(root, name)}
    if hidden:
        view = without(view, {n.key for n in view.nodes if n.key in hidden})
    if focus is not None:
        keys = {key for box in matching(root, focus) for key in (box.key, box.group) if key}
        view = around(view, {n.key for n in view.nodes if n.key in keys or inside(n.cluster, keys, view)}, radius)
    return view


def inside(cluster: str, keys: set[str], view: View) -> bool:
    """Whether a cluster is one of `keys`, or in one."""
    parents = {c.key: c.parent for c in view.clusters}
    while cluster:
        if cluster in keys:
            return True
        cluster = parents[cluster]
    return False


def without(view: View, hidden: set[str]) -> View:
    """The view without some nodes; what went through one of them is joined, and dashed."""
    edges = list(view.edges)
    for key in hidden:
        into = [e for e in edges if e.target == key and e.source != key]
        out = [e for e in edges if e.source == key and e.target != key]
        edges = [e for e in edges if key not in (e.source, e.target)]
        for a in into:
            for b in out:
                if not any(e.source == a.source and e.target == b.target for e in edges):
                    edges.append(Edge(a.source, b.target, b.tensor, b.label, b.gradient, b.nbytes, "hidden",
                                      uses=b.uses, spine=a.spine and b.spine, order=b.order))
    return _kept(view, [n for n in view.nodes if n.key not in hidden], edges)


def around(view: View, centre: set[str], radius: int) -> View:
    """The view of some nodes and of what is at most `radius` edges away."""
    near = set(centre)
    for _ in range(radius):
        near |= {end for e in view.edges if e.source in near or e.target in near for end in (e.source, e.target)}
    return _kept(view, [n for n in view.nodes if n.key in near], view.edges)


def _kept(view: View, nodes: list[Node], edges: list[Edge]) -> View:
    keys = {n.key for n in nodes}
    edges = [e for e in edges if e.source in keys and e.target in keys]
    joined = {end for e in edges for end in (e.source, e.target)}
    nodes = [n for n in nodes if n.ops or n.key in joined]
    needed: set[str] = set()
    parents = {c.key: c.parent for c in view.clusters}
    for node in nodes:
        cluster = node.cluster
        while cluster:
            needed.add(cluster)
            cluster = parents[cluster]
    return View(view.title, nodes, edges, [c for c in view.clusters if c.key in needed], view.opened, view.notes)
