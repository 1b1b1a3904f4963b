"""A graph from the tape of a result, after the fact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from minigrad.backend import is_array, is_floating, namespace
from minigrad.errors import GraphError
from minigrad.graph import RELEASED, Node, node_of, walk
from minigrad.layers.module import Module as Layer
from minigrad.op import Traced, value
from minigrad.viz.capture import Recorder, Statistics
from minigrad.viz.graph import Graph
from minigrad.viz.sweep import sweep

__all__ = ["trace"]


def trace(outputs: Any, model: Layer | None = None, *, gradients: bool = True, stats: Statistics = "hist",
          expand: bool | Literal["all"] = True, keep_partials: bool = False, title: str = "") -> Graph:
    """The graph that a result was computed by, from its tape, after the fact.

    The tape holds what backward needs and no more, so values of some tensors, operations without a derivative and
    forward times are absent; `record` sees them. No `.grad` is touched, no hook is called, nothing is freed.

    Parameters
    ----------
    outputs : Tensor or sequence of Tensors
    model : Module, optional
        Gives names to parameters and buffers.
    gradients : bool
        Send a gradient back (1 for every element of the outputs), for shapes and partial gradients.
    stats, expand, keep_partials, title
        As for `record`.

    Raises
    ------
    GraphError
        The outputs were not recorded.
    """
    results = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
    if not results or any(not isinstance(y, Traced) or y.edge is None for y in results):
        raise GraphError("trace", got="a Tensor that no recorded operation made",
                         wanted="a result that requires a gradient",
                         hint="Compute it from a Parameter or a Tensor with requires_grad=True, outside no_grad()")
    recorder = Recorder(model, stats, expand, False, keep_partials, 64, title)
    nodes = walk([y.edge for y in results])
    phases = _phases(nodes)
    shown = {y.edge: y.data for y in results}
    for node in nodes:  # what one node holds of its inputs is another node's output
        held = {} if node.saved is RELEASED else _held(node)
        shown |= {edge: held["input", i] for i, edge in enumerate(node.edges) if node_of(edge) and ("input", i) in held}
    for node in nodes:
        inputs, outs = _known(node, shown)
        row = recorder.builder.forward(node.op, node, inputs, outs)
        row.phase, row.module = phases[node], recorder._module(node.scope, phases[node])
        if not row.phase and recorder._wants(node.op) and _complete(node, inputs):
            recorder._opened[row.id] = (node.op, [value(x) for x in inputs], node.needs)
    if gradients and all(node.saved is not RELEASED for node in nodes):
        seeds = {y.edge: namespace(y.data).ones_like(y.data) for y in results if is_floating(y.data.dtype)}
        sweep(nodes, seeds, recorder.backward)
    for name in list(recorder._opened):
        recorder._open(name, None)
    recorder.builder.finish()
    return recorder.graph


def _known(node: Node, shown: dict[Any, Any]) -> tuple[list[Any], list[Any]]:
    """What the tape still knows of a node's inputs and outputs, as arguments for a Builder."""
    saved = {} if node.saved is RELEASED else _held(node)
    inputs: list[Any] = []
    for i, edge in enumerate(node.edges):
        array = saved.get(("input", i))
        if edge is None:
            inputs.append(array)
        elif node_of(edge) is None:
            inputs.append(edge)
        else:
            inputs.append(_Placeholder(edge, array))
    outs = []
    for k in range(node.op.n_out + node.op.n_aux):
        known = shown.get((node, k) if k else node)
        outs.append(saved.get(("output", k)) if known is None else known)
    return inputs, outs


def _held(node: Node) -> dict[tuple[str, int], Any]:
    """The arrays that a node holds, by which input or output they are."""
    return {(source, i): array for (source, i, _), array in zip(node.op.keeps, node.saved) if is_array(array)}


class _Placeholder(Traced):
    """A result in the middle of a tape: its edge, and its array where something holds it."""

    __slots__ = ("edge", "data", "name")

    def __init__(self, edge: Any, array: Any) -> None:
        self.edge, self.data, self.name = edge, array, None


def _complete(node: Node, inputs: list[Any]) -> bool:
    """Whether every array that the forward text needs is known; an absent constant may be a None that was passed."""
    return all(value(x) is not None for x, edge in zip(inputs, node.edges) if edge is not None)


def _phases(nodes: Iterable[Node]) -> dict[Node, int]:
    """1 for nodes that a backward pass recorded: from the first that comes back to a layer call that had ended."""
    found: dict[Node, int] = {}
    ended: set[int] = set()
    open_now: list[int] = []
    phase = 0
    for node in nodes:
        chain, scope = [], node.scope
        while scope is not None:
            chain.append(id(scope))
            scope = scope[0]
        if any(each in ended for each in chain):
            phase = 1
        ended |= set(open_now) - set(chain)
        open_now = chain
        found[node] = phase
    return found
