"""The recorded graph: nodes, edges, an iterative walk, and the hooks that wait at an edge. No mathematics.

An *edge* is the key under which the engine files a gradient: a `Node` stands for its output 0, a tuple ``(Node, k)``
for its output k, and a Tensor for itself, a leaf. Nodes point to what they were computed from and never back, and hold
raw arrays, never a Tensor but a leaf: there is no cycle, so a graph that is dropped is freed at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["Hooks", "Node", "RELEASED", "hooks", "index_of", "node_of", "walk"]

RELEASED = ("released",)  # what `Node.saved` becomes once backward has used it


class Node:
    """One recorded operation.

    op : the `Op`, with its hyper-parameters and shapes
    edges : per input, where its gradient goes; None for a constant
    needs : per input, whether it needs a gradient
    saved : arrays in the order of the op's `keeps`; None where the gradients needed do not ask for one
    like : per input, the (shape, dtype) its gradient is summed and cast to; None if nothing was broadcast or promoted
    seq : the tick at which it was made; backward runs in falling order of it
    scope : the layers that were being called
    """

    __slots__ = ("op", "edges", "needs", "saved", "like", "seq", "scope", "__weakref__")

    op: Any
    edges: tuple[Any, ...]
    needs: tuple[bool, ...]
    saved: tuple[Any, ...]
    like: tuple[Any, ...] | None
    seq: int
    scope: Any

    def __repr__(self) -> str:
        return f"<Node {self.seq}: {self.op!r}>"


def node_of(edge: Any) -> Node | None:
    """The node an edge leads to; None for a leaf or a constant."""
    if edge.__class__ is tuple:
        edge = edge[0]
    return edge if edge.__class__ is Node else None


def index_of(edge: Any) -> int:
    """Which output of its node an edge stands for."""
    return edge[1] if edge.__class__ is tuple else 0


def walk(edges: Iterable[Any], since: int = 0) -> list[Node]:
    """Every node that the edges lead to, each once, in the order they were made. Iterative: depth is no limit.

    Nodes made before the tick `since` are left out, with all before them.
    """
    seen: set[Node] = set()
    stack = [node_of(edge) for edge in edges]
    while stack:
        node = stack.pop()
        if node is None or node in seen or node.seq < since:
            continue
        seen.add(node)
        stack.extend([node_of(edge) for edge in node.edges if edge is not None])
    return sorted(seen, key=_seq)


def _seq(node: Node) -> int:
    return node.seq


class Hooks:
    """Functions that see the total gradient of an edge once, before it is used, and may replace it.

    They are kept here, not on nodes or Tensors: almost no graph has one, and the engine asks once per backward whether
    there are any. An entry goes when its node or leaf does.
    """

    def __init__(self) -> None:
        self._table: dict[tuple[int, int], tuple[Any, dict[int, Callable[[Any], Any]]]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._table)

    def add(self, edge: Any, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Add a hook to an edge; calling what is returned removes it again."""
        holder = node_of(edge) or edge
        key = (id(holder), index_of(edge))
        if key not in self._table:
            self._table[key] = (weakref.ref(holder, lambda _: self._table.pop(key, None)), {})
        self._count += 1
        number = self._count
        self._table[key][1][number] = hook

        def remove() -> None:
            entry = self._table.get(key)
            if entry is not None and entry[1].pop(number, None) is not None and not entry[1]:
                del self._table[key]

        return remove

    def at(self, edge: Any) -> Iterator[Callable[[Any], Any]]:
        """The hooks of an edge, oldest first."""
        entry = self._table.get((id(node_of(edge) or edge), index_of(edge)))
        return iter(list(entry[1].values()) if entry else ())


hooks = Hooks()
