"""An operation opened: its own forward text run on Tensors, which records its parts, and their partial gradients.

A text is a Python function, so its parts have two levels. *Steps* are calls of the functions that `minigrad.op.step`
names, and the lines of the text around them; *primitives* are the operations that these record. A step with several
outputs is drawn once per output: the gradient through the mean alone and through the variance alone are what one wants
to see. Each is found by sending that output's gradient alone through the step's primitives. (`minigrad.expansion` opens
recorded nodes; here what is not recorded, such as the constant that moments are taken from, is to be seen as well.)
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minigrad.backend import is_array, is_floating
from minigrad.expansion import run_text
from minigrad.graph import Node
from minigrad.modes import STEP, switch
from minigrad.observers import Observer
from minigrad.op import Traced, value
from minigrad.tensor import Tensor
from minigrad.viz.builder import Builder, Storages
from minigrad.viz.kinds import COMPOSITE, kind_of
from minigrad.viz.rows import Operation, TensorRow, Use
from minigrad.viz.sweep import sweep

__all__ = ["Body", "TITLES", "expand"]

#: What the outputs of named steps are called in pictures, where that is not the step's own name.
TITLES = {"moments": ("Mean", "Variance"), "inverse_std": ("Rsqrt",)}


@dataclass
class Body:
    """The inside of one operation.

    builder : its primitives, their tensors and uses
    steps, step_uses : the level above, empty where the text has no named steps
    gradients : per input of the operation, the sum of the partial gradients on the ways into it, or None
    partials : (id of the part, argument) to the partial gradient itself
    nested : id of a part to the operation, its inputs and needs, for parts that are worth opening in turn
    """

    builder: Builder
    steps: list[Operation] = field(default_factory=list)
    step_uses: list[Use] = field(default_factory=list)
    gradients: list[Any] = field(default_factory=list)
    partials: dict[tuple[str, int], Any] = field(default_factory=dict)
    nested: dict[str, tuple[Any, list[Any], Sequence[bool]]] = field(default_factory=dict)


class _Watcher(Observer):
    """Notes each primitive, and where in the text it stands."""

    def __init__(self, builder: Builder, text: Any) -> None:
        self.builder, self.text = builder, text
        self.step_of: dict[str, tuple[str, int]] = {}  # primitive -> (step or line, which call of it)
        self.nodes: list[Node] = []
        self.scopes: list[Any] = []
        self.nested: dict[str, tuple[Any, list[Any], Sequence[bool]]] = {}

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        row = self.builder.forward(op, node, inputs, outputs)
        name, call, row.text = _place_in(self.text, scope)
        self.step_of[row.id] = (name, call)
        self.scopes.append(scope)  # held, so that ids of scopes stay their own
        if node is not None:
            self.nodes.append(node)
            if COMPOSITE.search(op.name):
                self.nested[row.id] = (op, [value(x) for x in inputs], node.needs)


def _place_in(text: Any, scope: Any) -> tuple[str, int, str]:
    """Which step of `text` the running primitive belongs to, which call of it, and the line that asked for it."""
    outermost = innermost = scope if scope is not None and scope[2] == STEP else None
    while outermost is not None and outermost[0] is not None:
        outermost = outermost[0]
    frame: Any = sys._getframe(2)
    shown = None
    while frame is not None and frame.f_code is not text:
        if shown is None and innermost is not None and frame.f_code.co_name == innermost[1]:
            shown = frame
        frame = frame.f_back
    shown = shown or frame
    line = "" if shown is None else linecache.getline(shown.f_code.co_filename, shown.f_lineno).strip()
    if outermost is not None:
        return outermost[1], id(outermost), line
    return "", 0 if frame is None else frame.f_lineno, line


def titles_of(step: str) -> tuple[str, ...]:
    """What the outputs of a step are called: ``scale_shift`` gives ScaleShift."""
    return TITLES.get(step) or ("".join(part.capitalize() for part in step.split("_")),)


def _leaf(x: Any, needed: bool) -> Any:
    if not is_array(x):
        return x
    leaf = Tensor.wrap(x)
    leaf.requires_grad = needed and is_floating(x.dtype)
    return leaf


def expand(op: Any, prefix: str, inputs: Sequence[Any], tensors: Sequence[str | None], outputs: Sequence[str | None],
           needs: Sequence[bool], gradients: Sequence[Any], storages: Storages, histograms: bool | None) -> Body | None:
    """Open an operation.

    Parameters
    ----------
    op : Op
    prefix : str
        The operation's id; its parts' ids begin with it.
    inputs : arrays, numbers, None
    tensors, outputs : ids of the operation's inputs and outputs; the parts use the same ones
    needs : per input whether its gradient is wanted
    gradients : per differentiable output its total gradient, or None
    storages, histograms : as for a Builder

    Returns
    -------
    Body or None
        None where the text cannot run on Tensors or is a single primitive: then there is nothing to open.
    """
    builder = Builder(f"{prefix}.", storages, histograms, keep_partials=True)
    watcher = _Watcher(builder, type(op).forward.__code__)
    leaves = [_leaf(x, need) for x, need in zip(inputs, needs)]
    for x, tensor in zip(inputs, tensors):
        if tensor is not None and is_array(x):
            builder.bind(x, tensor)
    builder.uses_of.update({tensor: [] for tensor in tensors if tensor is not None})
    with switch(observers=(watcher,), scope=None), np.errstate(all="ignore"):
        results = run_text(op, leaves)
    if results is None or len(builder.ops) < 2:
        return None
    body = Body(builder)
    seeds = {r.edge: g for r, g in zip(results, gradients)
             if isinstance(r, Traced) and r.edge is not None and g is not None}
    _outer(builder, results, outputs)
    for tensor in tensors:  # places for what comes from outside: sums of partial gradients are filed there
        if tensor is not None:
            builder.tensors[tensor] = TensorRow(tensor, "", "act", [], "", 0)
    arrived = sweep(watcher.nodes, seeds, _told(builder)) if seeds else {}
    builder.finish()
    body.gradients = [arrived.get(leaf) if isinstance(leaf, Traced) else None for leaf in leaves]
    body.partials = dict(builder.partials)
    if any(name for name, _ in watcher.step_of.values()):
        _steps(body, prefix, watcher, [t for t in outputs if t is not None])
    builder.tensors = {key: row for key, row in builder.tensors.items() if key not in tensors}
    body.nested = watcher.nested
    return body


def _told(builder: Builder) -> Callable[[Node, list[Any], list[Any]], None]:
    def told(node: Node, gradients: list[Any], found: list[Any]) -> None:
        builder.backward(node, gradients, found)

    return told


def _outer(builder: Builder, results: Sequence[Any], outputs: Sequence[str | None]) -> None:
    """Let the parts that make the operation's outputs name them as the operation does."""
    renamed = {}
    for result, outer in zip(results, outputs):
        inner = builder.find(result) if isinstance(result, Traced) else None
        if outer is not None and inner is not None and inner in builder.tensors and inner not in renamed:
            renamed[inner] = outer
            builder.bind(result.data, outer)
    for op in builder.ops:
        op.outputs = [renamed.get(t, t) for t in op.outputs]
        op.inputs = [None if t is None else renamed.get(t, t) for t in op.inputs]
    for use in builder.uses:
        use.tensor = renamed.get(use.tensor, use.tensor)
    for inner, outer in renamed.items():
        builder.tensors[outer] = builder.tensors.pop(inner)
        builder.tensors[outer].id = outer
        builder.uses_of[outer] = builder.uses_of.pop(inner, [])


# ------------------------------------------------------------------ steps


def _steps(body: Body, prefix: str, watcher: _Watcher, outer: list[str]) -> None:
    """Gather primitives into steps, in the order of their first primitive."""
    builder = body.builder
    groups: dict[tuple[str, int], list[Operation]] = {}
    for op in builder.ops:
        groups.setdefault(watcher.step_of[op.id], []).append(op)
    home = {t: key for key, ops in groups.items() for op in ops for t in op.outputs}
    read_elsewhere = {u.tensor for u in builder.uses if home.get(u.tensor) != watcher.step_of[u.op]}
    for (name, _), ops in groups.items():
        # What the operation returns comes first, in that order: so the mean comes before the variance.
        made = [t for op in ops for t in op.outputs]
        outs = [t for t in outer if t in made] + [t for t in made if t in read_elsewhere and t not in outer]
        titles = titles_of(name) if name else ()
        parts = [_ancestors(ops, t) for t in outs]
        shared = any(set(a) & set(b) for i, a in enumerate(parts) for b in parts[i + 1:])
        for k, (out, part) in enumerate(zip(outs, parts)):
            inside = ops if shared else [op for op in ops if op.id in part]
            title = titles[k] if len(outs) <= len(titles) else inside[-1].op
            _add_step(body, prefix, title, inside, out, shared)


def _ancestors(ops: list[Operation], tensor: str) -> list[str]:
    """Those of `ops`, in order, that `tensor` is computed from."""
    wanted, found = {tensor}, []
    for op in reversed(ops):
        if wanted & set(op.outputs):
            found.append(op.id)
            wanted |= {t for t in op.inputs if t is not None}
    return found[::-1]


def _add_step(body: Body, prefix: str, name: str, ops: list[Operation], out: str, alone: bool) -> None:
    """One step as an operation with uses of its own; `alone`: only this output's gradient may count on its edges."""
    builder = body.builder
    ids = [op.id for op in ops]
    inside = {t for op in ops for t in op.outputs}
    reached = set(_ancestors(ops, out))
    uses = [u for u in builder.uses if u.op in reached and u.tensor not in inside]
    step = Operation(f"{prefix}.s{len(body.steps) + 1}", name, kind_of(name), parent=prefix, body=ids, outputs=[out],
                     text=ops[-1].text if len({op.text for op in ops}) == 1 else "", order=ops[0].order)
    if alone:
        step.group = f"{prefix}.{ids[0]}"
    summed = _alone(body, ids, out) if alone else _summed(body, uses)
    for tensor in dict.fromkeys(u.tensor for u in uses):
        arg = len(step.inputs)
        step.inputs.append(tensor)
        g = summed.get(tensor)
        live = g is not None or any(u.differentiable for u in uses if u.tensor == tensor)
        body.step_uses.append(Use(step.id, arg, tensor, differentiable=live, grad=builder.summary(g)
                                  if g is not None else None))
        if g is not None:
            body.partials[step.id, arg] = g
    orders = [op.bwd_order for op in ops if op.bwd_order is not None and op.id in reached]
    step.bwd_order = min(orders) if orders else None
    for op in ops:
        op.parent = op.parent or step.id
    body.steps.append(step)


def _summed(body: Body, uses: list[Use]) -> dict[str, Any]:
    """The partial gradients of several uses, added up per tensor."""
    summed: dict[str, Any] = {}
    for use in uses:
        g = body.partials.get((use.op, use.arg))
        if g is not None:
            summed[use.tensor] = summed[use.tensor] + g if use.tensor in summed else g
    return summed


def _alone(body: Body, ids: list[str], out: str) -> dict[str, Any]:
    """What a step's inputs receive when only the gradient of `out` is sent through it."""
    builder = body.builder
    nodes = [node for node, (row, _) in builder.op_of.items() if row.id in ids]
    start = next(((node, k) if k else node for node in nodes
                  for k, t in enumerate(builder.op_of[node][0].outputs) if t == out), None)
    if start is None or builder.totals.get(out) is None:
        return {}
    inside = {t for node in nodes for t in builder.op_of[node][0].outputs}
    arrived: dict[str, Any] = {}

    def told(node: Node, gradients: list[Any], found: list[Any]) -> None:
        _, places = builder.op_of[node]
        for arg, (need, g) in enumerate(zip(node.needs, found)):
            if need and g is not None and places[arg] >= 0:
                tensor = builder.uses[places[arg]].tensor
                if tensor not in inside:
                    arrived[tensor] = arrived[tensor] + g if tensor in arrived else g

    sweep(nodes, {start: builder.totals[out]}, told)
    return arrived
