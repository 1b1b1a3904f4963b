"""How large everything is that has words in it. Sizes are fixed before the layout, so every Graphviz gives the same."""

from __future__ import annotations

from functools import lru_cache

from minigrad.run.text import display_width
from minigrad.viz.scene import Cluster, Edge, Node
from minigrad.viz.words import name_text, number_text

__all__ = ["LINE", "TITLE", "cluster_lines", "text_width", "edge_lines", "edge_size", "node_lines", "node_size"]

TITLE, LINE = 19.0, 15.0  # heights of a title and of the lines below it, in points


_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[] ·-"), frozenset("mwMW@%…")


@lru_cache(maxsize=1 << 14)
def text_width(text: str, size: float) -> float:
    """The width of a line in sans-serif type, by classes of characters; wide enough for Helvetica, Arial and DejaVu."""
    units = 0.0
    for c in text:
        units += (0.36 if c in _NARROW else 0.95 if c in _WIDE else 0.72 if c.isupper() else
                  0.6 * max(1, display_width(c)))
    return units * size


def node_lines(node: Node) -> list[tuple[str, str]]:
    """(class, text) of each line of a node: the title first, then what the node's path is, then its rows."""
    marks = {"removed": "− only in A", "added": "+ only in B"}
    rows = [(f"{node.status}-mark", marks[node.status])] if node.status in marks else []
    return [("title", name_text(node.title, 44)), *rows, *((kind, name_text(text, 60)) for kind, text in node.rows)]


def node_size(node: Node) -> tuple[float, float]:
    """Width and height of a node."""
    lines = node_lines(node)
    title = text_width(lines[0][1], 13) * 1.1 + (8 + text_width(name_text(node.path, 26), 11) if node.path else 0)
    wide = max([title, *(text_width(text, 11) for _, text in lines[1:])])
    high = TITLE + LINE * (len(lines) - 1)
    if node.shape == "ellipse":
        return wide * 1.2 + 26, high * 1.18 + 12
    if node.shape == "cylinder":
        return wide + 22, high + 18
    return wide + 24 + (6 if node.openable else 0), high + 13


def edge_lines(edge: Edge, nabla: str = "∇") -> list[tuple[str, str]]:
    """(class, text) of each line of an edge's label."""
    lines = [("soft", edge.label)] if edge.label else []
    if edge.gradient is not None:
        lines.append(("grad", f"{nabla} {number_text(edge.gradient, 2)}"))
    return lines


def edge_size(lines: list[tuple[str, str]]) -> tuple[float, float]:
    """Width and height of an edge's label, with the gap that keeps it off its line."""
    return max(text_width(text, 11) for _, text in lines) + 12, 14.0 * len(lines) + 2


def cluster_lines(cluster: Cluster) -> tuple[str, str]:
    """Title and what stands behind it, of a frame: the path, and as many hyper-parameters as fit."""
    hyper = ""
    for part in cluster.hyper.split(", "):
        if len(hyper) + len(part) > 34:
            break
        hyper += (", " if hyper else "") + part
    behind = " ".join(part for part in (name_text(cluster.path, 30), f"({hyper})" if hyper else "") if part)
    return cluster.title, behind
