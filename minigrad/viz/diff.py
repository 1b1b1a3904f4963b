"""Two graphs in one picture and in words: what only one of them has, and what is done differently."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from minigrad.errors import ArgumentError
from minigrad.io.files import replace_file
from minigrad.run.text import printable
from minigrad.viz.choice import knows
from minigrad.viz.dot import dot_text
from minigrad.viz.graph import Graph
from minigrad.viz.layout import RenderError, lay_out, picture
from minigrad.viz.page import page_of_views
from minigrad.viz.scene import Cluster, Edge, Node, View
from minigrad.viz.svg import svg_text
from minigrad.viz.words import bytes_text

__all__ = ["Difference", "diff"]


class Difference:
    """The difference of two graphs A and B.

    Attributes
    ----------
    a, b : Graph
    view : View
        Nodes of both: only in A (dashed), only in B, changed, the same.
    lines : list of str
        The same in words.
    """

    def __init__(self, a: Graph, b: Graph, view: View, lines: list[str]) -> None:
        self.a, self.b, self.view, self.lines = a, b, view, lines

    @property
    def same(self) -> bool:
        """Whether nothing differs that is compared: operations, hyper-parameters, parameters, bytes held, order."""
        return not self.lines

    def text(self) -> str:
        """What differs, one thing a line, and totals."""
        head = [f"A: {printable(self.a.meta.get('title', ''))}", f"B: {printable(self.b.meta.get('title', ''))}", ""]
        return "\n".join([*head, *(self.lines or ["no difference"]), "", *_totals(self.a, self.b)])

    def dot(self, rank: str = "TB") -> str:
        """DOT text."""
        return dot_text(self.view, rank)

    def svg(self, rank: str = "TB", theme: str = "auto") -> str:
        """An SVG picture."""
        return svg_text(self.view, lay_out(dot_text(self.view, rank, words=False)), theme)

    def png(self, rank: str = "TB", theme: str = "light") -> bytes:
        """A PNG picture."""
        return picture(lambda nabla: dot_text(self.view, rank, theme, nabla), "png")

    def pdf(self, rank: str = "TB", theme: str = "light") -> bytes:
        """A PDF picture; needs the program ``dot``."""
        return picture(lambda nabla: dot_text(self.view, rank, theme, nabla), "pdf")

    def html(self, rank: str = "TB") -> str:
        """One page with the picture and the list."""
        return page_of_views(self.b, [self.view], rank, notes=self.text())

    def save(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write a file whose ending says what: svg, png, pdf, dot, html or txt."""
        target = Path(path)
        kind = target.suffix.lstrip(".").lower()
        if kind in ("png", "pdf"):
            target.write_bytes(self.png(**options) if kind == "png" else self.pdf(**options))
        elif kind in ("svg", "dot", "html"):
            text = {"svg": self.svg, "dot": self.dot, "html": self.html}[kind](**options)
            replace_file(target, text.encode("utf-8"))
        elif kind == "txt":
            replace_file(target, (self.text() + "\n").encode("utf-8"))
        else:
            raise ArgumentError("Difference.save", got=f"{target.name!r}",
                                wanted="a name ending in .svg, .png, .pdf, .dot, .html or .txt")
        return target

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": self.text()}
        with contextlib.suppress(RenderError):
            bundle["image/svg+xml"] = self.svg()
        return bundle


def diff(a: Graph, b: Graph, **view: Any) -> Difference:
    """Compare two graphs as their pictures show them.

    Nodes are aligned in order by what they are (layers by class, operations by name), so that a layer put in shifts
    nothing.

    Parameters
    ----------
    a, b : Graph
    **view
        As for `Graph.view`. Names of layers and operations that only one of the graphs has count for that one.
    """
    first, second = _own(a, b, view), _own(b, a, view)
    ours, theirs = _shown(first), _shown(second)
    order = _aligned(ours, theirs)
    lines, nodes = [], []
    renamed_a: dict[str, str] = {}
    renamed_b: dict[str, str] = {}
    frames = {f"{cluster.title} {cluster.path}".strip(): cluster.key for cluster in second.clusters}
    for left, right in order:
        if left is not None and right is not None:
            changes = _changes(a, b, left, right)
            node = replace(right, status="changed" if changes else "", openable=False,
                           rows=[*right.rows, *(("changed-mark", change) for change in changes)])
            renamed_a[left.key] = renamed_b[right.key] = node.key
            lines += [f"≠ {_named(right, second)}: {change}" for change in changes]
        elif left is not None:
            cluster = frames.get(_frame(left, first), "")
            node = replace(left, key=f"a:{left.key}", status="removed", cluster=cluster, ops=[], openable=False)
            renamed_a[left.key] = node.key
            lines.append(f"− {_named(left, first)}: only in A")
        else:
            assert right is not None
            node = replace(right, status="added", openable=False)
            renamed_b[right.key] = node.key
            lines.append(f"+ {_named(right, second)}: only in B")
        nodes.append(node)
    _pair_ends(first, second, renamed_a, renamed_b)
    edges = _merged(first, second, renamed_a, renamed_b)
    nodes += [node for node in second.nodes if node.key not in renamed_b]  # inputs, buffers, results
    known = {node.key for node in nodes}
    edges = [edge for edge in edges if edge.source in known and edge.target in known]
    joined = {end for edge in edges for end in (edge.source, edge.target)}
    nodes = [node for node in nodes if node.key in joined or node.ops or node.status == "removed"]
    title = f"{a.meta.get('title', 'A')} → {b.meta.get('title', 'B')}"
    clusters = [replace(cluster, closable=False) for cluster in second.clusters]
    return Difference(a, b, View(title, nodes, edges, _used(clusters, nodes)), lines)


def _own(graph: Graph, other: Graph, wishes: dict[str, Any]) -> View:
    wishes = dict(wishes)
    for wish in {"opened", "closed", "hide"} & set(wishes):
        wishes[wish] = [name for name in wishes[wish] if knows(graph, name) or not knows(other, name)]
    return graph.view(**wishes)


def _shown(view: View) -> list[Node]:
    return [node for node in view.nodes if node.ops and node.shape != "side"]


def _aligned(ours: list[Node], theirs: list[Node]) -> list[tuple[Node | None, Node | None]]:
    """Nodes that are the same thing as pairs, the others alone, in one order."""
    matcher = SequenceMatcher(None, [n.title for n in ours], [n.title for n in theirs], autojunk=False)
    order: list[tuple[Node | None, Node | None]] = []
    for kind, i0, i1, j0, j1 in matcher.get_opcodes():
        left: Sequence[Node | None] = ours[i0:i1]
        right: Sequence[Node | None] = theirs[j0:j1]
        if kind == "equal":
            order += list(zip(left, right))
        else:
            order += [*((node, None) for node in left), *((None, node) for node in right)]
    return order


def _changes(a: Graph, b: Graph, left: Node, right: Node) -> list[str]:
    """How two nodes for the same thing differ."""
    found = []
    ops_a, ops_b = [a.op[o] for o in left.ops], [b.op[o] for o in right.ops]
    names_a, names_b = [op.op for op in ops_a], [op.op for op in ops_b]
    if names_a != names_b:
        found.append(f"{', '.join(names_a)} → {', '.join(names_b)}" if len(names_a) + len(names_b) < 5 else
                     f"{len(names_a)} → {len(names_b)} operations")
    elif len(ops_a) == 1:
        keys = dict.fromkeys((*ops_a[0].attrs, *ops_b[0].attrs))
        found += [f"{key} {ops_a[0].attrs.get(key)} → {ops_b[0].attrs.get(key)}" for key in keys
                  if ops_a[0].attrs.get(key) != ops_b[0].attrs.get(key)]
    params_a, params_b = ([text for kind, text in node.rows if kind == "params"] for node in (left, right))
    if params_a != params_b:
        found.append(f"{' · '.join(params_a) or 'no parameters'} → {' · '.join(params_b) or 'no parameters'}")
    held_a, held_b = a.held_bytes(ops_a), b.held_bytes(ops_b)
    if held_a != held_b:
        found.append(f"keeps {bytes_text(held_a)} → {bytes_text(held_b)}")
    updated_a, updated_b = _updated(a, left), _updated(b, right)
    if updated_a != updated_b:
        found.append(f"updates {', '.join(updated_a) or 'nothing'} → {', '.join(updated_b) or 'nothing'}")
    return found


def _updated(graph: Graph, node: Node) -> list[str]:
    """Names of the buffers that a node gives new values, such as running statistics."""
    ops = set(node.ops)
    return [graph.tensor[m.tensor].name.rpartition(".")[2] for m in graph.mutations
            if m.op in ops or graph.op[m.op].parent in ops]


def _frame(node: Node, view: View) -> str:
    """What the frame around a node is called; frames of two graphs that are called the same are the same."""
    return next((f"{c.title} {c.path}".strip() for c in view.clusters if c.key == node.cluster), "")


def _named(node: Node, view: View) -> str:
    """A node in words: with its layer's path, or for a part with what it is a part of."""
    frame = "" if node.path else _frame(node, view)
    return printable(f"{node.title} {node.path}".strip() + (f" of {frame}" if frame else ""))


def _pair_ends(first: View, second: View, renamed_a: dict[str, str], renamed_b: dict[str, str]) -> None:
    """Give inputs and results of A the names of those of B that look the same and belong to the same node."""
    def found(view: View, renamed: dict[str, str]) -> dict[tuple[str, str, str], str]:
        titles = {n.key: n.title for n in view.nodes if n.key not in renamed}
        out = {}
        for edge in view.edges:
            for end, other, way in ((edge.source, edge.target, "in"), (edge.target, edge.source, "out")):
                if end in titles and other in renamed:
                    out[titles[end], renamed[other], way] = end
        return out

    theirs = found(second, renamed_b)
    for look, key in found(first, renamed_a).items():
        if look in theirs:
            renamed_a[key] = theirs[look]


def _merged(first: View, second: View, renamed_a: dict[str, str], renamed_b: dict[str, str]) -> list[Edge]:
    """Edges of both, each once."""
    found: dict[tuple[str, str], Edge] = {}
    for edge in second.edges:
        ends = renamed_b.get(edge.source, edge.source), renamed_b.get(edge.target, edge.target)
        found[ends] = replace(edge, source=ends[0], target=ends[1], status="added")
    for edge in first.edges:
        ends = renamed_a.get(edge.source, f"a:{edge.source}"), renamed_a.get(edge.target, f"a:{edge.target}")
        if ends in found:
            found[ends].status = "" if found[ends].status == "added" else found[ends].status
        else:
            found[ends] = replace(edge, source=ends[0], target=ends[1], status="removed")
    return list(found.values())


def _used(clusters: list[Cluster], nodes: list[Node]) -> list[Cluster]:
    parents = {c.key: c.parent for c in clusters}
    used: set[str] = set()
    for node in nodes:
        key = node.cluster
        while key:
            used.add(key)
            key = parents[key]
    return [c for c in clusters if c.key in used]


def _totals(a: Graph, b: Graph) -> list[str]:
    """Operations, parameters and bytes of both."""
    def parameters(graph: Graph) -> int:
        return sum(math.prod(t.shape) for t in graph.tensors if t.kind == "param")

    def count(graph: Graph) -> int:
        return sum(1 for op in graph.top_level() if not op.phase)

    return [f"operations: {count(a):,} → {count(b):,}", f"parameters: {parameters(a):,} → {parameters(b):,}",
            f"held for backward: {bytes_text(a.held_bytes())} → {bytes_text(b.held_bytes())}"]
