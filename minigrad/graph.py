"""The recorded graph: nodes, edges, an iterative walk, and the hooks that wait at an edge. No mathematics.

An *edge* is the key under which the engine files a gradient: a `Node` stands for its output 0, a tuple ``(Node, k)``
for its output k, and a Tensor for itself, a leaf. Nodes point to what they were computed from and never back, and hold
raw arrays, never a Tensor but a leaf: there is no cycle, so a graph that is dropped is freed at once.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["Hooks", "Node", "RELEASED", "Retained", "hooks", "index_of", "node_of", "walk"]

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
    hooks : per output its hooks; unset where there are none
    """

    __slots__ = ("op", "edges", "needs", "saved", "like", "seq", "scope", "hooks", "__weakref__")

    op: Any
    edges: tuple[Any, ...]
    needs: tuple[bool, ...]
    saved: tuple[Any, ...]
    like: tuple[Any, ...] | None
    seq: int
    scope: Any
    hooks: dict[int, dict[int, Any]]

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

    They stand on the node or leaf itself, so that one which refers to its own Tensor is garbage when that is. Almost no
    graph has any: what is kept here tells the engine, which asks once per backward, whether there are any at all.
    """

    def __init__(self) -> None:
        self._holders: dict[int, weakref.ref[Any]] = {}
        self._number = itertools.count().__next__

    def __len__(self) -> int:
        return len(self._holders)

    def add(self, edge: Any, hook: Callable[[Any], Any]) -> Callable[[], None]:
        """Add a hook to an edge; calling what is returned removes it again."""
        holder: Any = node_of(edge) or edge
        index, number = index_of(edge), self._number()
        key = id(holder)
        known = weakref.ref(holder, lambda _: self._holders.pop(key, None))
        if getattr(holder, "hooks", None) is None:
            holder.hooks = {}
            self._holders[key] = known
        holder.hooks.setdefault(index, {})[number] = hook

        def remove() -> None:
            there = known()
            table = getattr(there, "hooks", None)
            if table and table.get(index, {}).pop(number, None) is not None and not any(table.values()):
                there.hooks = None  # type: ignore[union-attr]
                self._holders.pop(key, None)

        return remove

    def at(self, edge: Any) -> list[Callable[[Any], Any]]:
        """The hooks of an edge, oldest first."""
        table = getattr(node_of(edge) or edge, "hooks", None)
        return list(table.get(index_of(edge), {}).values()) if table else []


hooks = Hooks()


class Retained:
    """Stands among the hooks of an edge for a Tensor whose `.grad` backward shall fill. It does not keep it alive."""

    __slots__ = ("of",)

    def __init__(self, tensor: Any) -> None:
        self.of = weakref.ref(tensor)

    def __call__(self, gradient: Any) -> None:
        """Nothing is replaced."""
