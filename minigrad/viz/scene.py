"""What a picture is made of: nodes, edges, and clusters, which are frames around nodes."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Cluster", "Edge", "Node", "View"]


@dataclass
class Node:
    """One thing drawn. kind decides the colour; shape is box, ellipse, cylinder, note, loss, side or error. `rows` are
    the lines below the title, each with its class (params, soft, text, warn). `key` is the same in every picture of a
    graph.
    """

    key: str
    title: str
    kind: str
    shape: str = "box"
    path: str = ""
    rows: list[tuple[str, str]] = field(default_factory=list)
    cluster: str = ""
    openable: bool = False
    times: int = 1
    ops: list[str] = field(default_factory=list)
    tensor: str | None = None
    status: str = ""


@dataclass
class Edge:
    """A tensor on its way from one node to another; `gradient` is the norm of the partial gradient through this edge,
    and `order` the turn in which backward goes through it.
    """

    source: str
    target: str
    tensor: str
    label: str = ""
    gradient: float | None = None
    nbytes: int = 0
    kind: str = "data"  # or: update, none (no gradient passes)
    saved: bool = False
    spine: bool = False
    between: bool = False  # from one pass to another
    order: tuple[int, ...] | None = None
    uses: list[int] = field(default_factory=list)
    status: str = ""


@dataclass
class Cluster:
    """A frame around the nodes of something open."""

    key: str
    title: str
    path: str
    hyper: str
    kind: str
    parent: str
    closable: bool = True
    status: str = ""


@dataclass
class View:
    """What is shown, in the order of the program."""

    title: str
    nodes: list[Node]
    edges: list[Edge]
    clusters: list[Cluster]
    opened: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)
