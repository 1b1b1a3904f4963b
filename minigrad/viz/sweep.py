"""Backward over chosen nodes alone, outside the engine: nothing is accumulated, no hook is called, nothing is freed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from minigrad.graph import RELEASED, Node
from minigrad.op import restore

__all__ = ["sweep"]


def sweep(nodes: Iterable[Node], pending: dict[Any, Any],
          told: Callable[[Node, list[Any], list[Any]], None] | None = None) -> dict[Any, Any]:
    """Send the gradients filed under `pending` through `nodes`, newest first, as the engine does for arrays.

    Parameters
    ----------
    nodes : iterable of Node
        Gradients that arrive at an edge of any other node stay there.
    pending : mapping from edge to array
    told : callable, optional
        What an `Observer.backward` would be told: node, gradients of its outputs, partial gradients of its inputs.

    Returns
    -------
    dict
        What arrived at edges that no node of `nodes` stands behind.
    """
    pending = dict(pending)
    for node in sorted(nodes, key=lambda each: -each.seq):
        op = node.op
        keys = [node, *((node, k) for k in range(1, op.n_out))]
        gradients = [pending.pop(key, None) for key in keys]
        if node.saved is RELEASED or all(g is None for g in gradients):
            continue
        found = op.run_backward(node.saved, node.needs, *gradients)
        if node.like is not None:
            found = [restore(g, like) for g, like in zip(found, node.like)]
        if told is not None:
            told(node, gradients, found)
        for edge, need, g in zip(node.edges, node.needs, found):
            if need and g is not None:
                pending[edge] = pending[edge] + g if edge in pending else g
    return pending
