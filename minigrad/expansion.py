"""Operations opened up: the steps that a fused operation consists of, and the proof that it equals them.

A text runs on Tensors as it runs on arrays, and then records what it does. So `expand` gets the steps of an operation
from the one place that says what it computes, and nothing can drift apart. What is recorded is a graph of its own: the
one that was opened stays as it is.

Texts may call named steps (functions marked with `minigrad.op.step`: `moments`, `normalize`, `scale_shift`, …). Their
name is the innermost entry of the scope of each node that they record, `(scope outside, name, modes.STEP)`, one such
tuple per call; `steps_of` reads it. An `Expansion` has those steps as its parts, and in them, or beside them, the
primitives.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigrad import ops
from minigrad.backend import is_array, is_floating
from minigrad.engine import grad
from minigrad.errors import ArgumentError, GraphError
from minigrad.gradcheck import GradientError
from minigrad.graph import RELEASED, Node, walk
from minigrad.modes import STEP, enable_grad, layer_path
from minigrad.observers import Observer, observe
from minigrad.op import Op, Traced, apply
from minigrad.recomputation import Recompute
from minigrad.tensor import Tensor
from minigrad.versions import written

__all__ = ["Expansion", "Part", "Proof", "expand", "prove_equal", "run_text", "steps_of"]


# ------------------------------------------------------------------ what an expansion is


@dataclass(frozen=True)
class Part:
    """A step of an operation, or a primitive.

    Attributes
    ----------
    name : str
        Of the step, or of the primitive operation.
    nodes : tuple of Node
        The primitives it consists of, in the order in which they ran; one for a primitive. Their edges lead to each
        other, to nodes of earlier parts, and to the inputs of the expansion.
    parts : tuple of Part
        What is in a step, as far as `expand` was asked to open it; empty for a primitive.
    """

    name: str
    nodes: tuple[Node, ...]
    parts: tuple[Part, ...] = ()

    @property
    def is_step(self) -> bool:
        """Whether it is a named step."""
        return len(self.nodes) != 1 or self.name != self.nodes[0].op.name


@dataclass(frozen=True)
class Expansion:
    """An operation with what it consists of.

    Attributes
    ----------
    op : Op
    inputs : tuple
        Leaf Tensors, at which the edges of the first nodes end; numbers and None as they were.
    outputs : tuple of Tensor
    parts : tuple of Part
        Empty if the operation is a primitive: nothing smaller is recorded for it.
    """

    op: Op
    inputs: tuple[Any, ...]
    outputs: tuple[Tensor, ...]
    parts: tuple[Part, ...]

    @property
    def primitive(self) -> bool:
        """Whether there is nothing smaller."""
        return not self.parts

    def __str__(self) -> str:
        return "\n".join([repr(self.op), *_lines(self.parts, 1)])


def _lines(parts: tuple[Part, ...], level: int) -> list[str]:
    lines = []
    for part in parts:
        inside = ", ".join(node.op.name for node in part.nodes)
        lines.append("  " * level + (f"{part.name}: {inside}" if part.is_step and not part.parts else part.name))
        lines += _lines(part.parts, level + 1)
    return lines


def _step_scopes(node: Node) -> list[Any]:
    """The scopes of the named steps that a node was recorded in, outermost first: one tuple per call of a step."""
    found, scope = [], node.scope
    while scope is not None and scope[2] == STEP:
        found.append(scope)
        scope = scope[0]
    return found[::-1]


def steps_of(node: Node) -> tuple[str, ...]:
    """The names of the steps that a node was recorded in, outermost first; empty outside of all."""
    return tuple(scope[1] for scope in _step_scopes(node))


def _parts(nodes: Sequence[Node], level: int, depth: int | None) -> tuple[Part, ...]:
    """Group nodes by the call of a step they belong to at one level; open steps while `depth` is not reached."""
    parts, i = [], 0
    while i < len(nodes):
        scopes = _step_scopes(nodes[i])
        if len(scopes) <= level:
            parts.append(Part(nodes[i].op.name, (nodes[i],)))
            i += 1
            continue
        scope, start = scopes[level], i
        while i < len(nodes) and any(at is scope for at in _step_scopes(nodes[i])):
            i += 1
        inside = tuple(nodes[start:i])
        opened = _parts(inside, level + 1, depth) if depth is None or level + 1 < depth else ()
        parts.append(Part(scope[1], inside, opened))
    return tuple(parts)


# ------------------------------------------------------------------ expand


def expand(source: Any, inputs: Sequence[Any] | None = None, depth: int | None = None) -> Expansion:
    """Open an operation: run its text on Tensors and return what that records.

    Parameters
    ----------
    source : Node, Tensor or Op
        A node of a captured graph, the result of one, or an operation.
    inputs : sequence of arrays, Tensors, numbers and None, optional
        What to run it on. For a node the default is what it was run on, as far as the graph still holds that; values
        of floating point become leaves of the new graph.
    depth : int, optional
        How many levels to open: 1 for named steps (and primitives that are in none), 2 for what is in them, and so on;
        by default all. `Part.nodes` has the primitives in any case.

    Returns
    -------
    Expansion
        Its graph is new. The one that was opened is not touched.

    Raises
    ------
    GraphError
        The graph does not hold an input (backward does not need it, or it has freed or seen it change): pass `inputs`.
    ArgumentError
        An operation without inputs, or a depth below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad import Tensor, ops
    >>> from minigrad.expansion import expand
    >>> x = Tensor(np.random.default_rng(0).normal(size=(6, 2)), requires_grad=True)
    >>> y = ops.batch_norm(x)[0]
    >>> print(expand(y, depth=1))
    BatchNorm(axes=(0,), param_shape=(1, 2), eps=1e-05)
      moments: Subtract, Sum, Multiply, Subtract, Sum, Multiply, Subtract, Multiply, Sum, Multiply, Add, Add
      inverse_std: Add, Rsqrt
      normalize: Subtract, Multiply
    >>> bool(np.all(expand(y).outputs[0].numpy() == y.numpy()))
    True
    >>> [part.name for part in expand(ops.softmax(x)).parts]
    ['Subtract', 'Exp', 'Sum', 'Divide']
    """
    if depth is not None and depth < 1:
        raise ArgumentError("expand", got=f"depth={depth}", wanted="1 or more")
    node = source.node if isinstance(source, Tensor) else source
    if isinstance(node, Node):
        op = node.op
        given = _inputs_of(node) if inputs is None else tuple(inputs)
    elif isinstance(node, Op):
        if inputs is None:
            raise ArgumentError("expand", got="an operation without inputs", wanted="inputs to run it on")
        op, given = node, tuple(inputs)
    else:
        raise ArgumentError("expand", got=repr(source)[:80],
                            wanted="a node, the result of a recorded operation, or an Op")
    leaves = tuple(_leaf(x) for x in given)
    outputs = run_text(op, leaves)
    if outputs is None:
        return Expansion(op, leaves, _tuple(apply(op, *leaves)), ())
    nodes = walk([y.edge for y in outputs if y.edge is not None])
    if len(nodes) == 1 and type(nodes[0].op) is type(op):
        nodes = []
    return Expansion(op, leaves, outputs, _parts(nodes, 0, depth))


def _tuple(x: Any) -> tuple[Any, ...]:
    return x if isinstance(x, tuple) else (x,)


def _leaf(x: Any) -> Any:
    """A value as a leaf of a new graph, in the memory it is in."""
    if isinstance(x, Traced):
        x = x.data
    return Tensor(x, requires_grad=is_floating(x.dtype)) if is_array(x) else x


def run_text(op: Op, inputs: Sequence[Any]) -> tuple[Any, ...] | None:
    """The outputs of an operation's text on Tensors; None if it needs NumPy itself, as primitives do."""
    text = copy.copy(op)  # texts note shapes on their operation
    try:
        with enable_grad():
            return _tuple(text.forward(*inputs))
    except AttributeError as error:
        if error.obj is ops:  # a name that minigrad has not: the text writes into arrays
            return None
        raise


def _inputs_of(node: Node) -> tuple[Any, ...]:
    """What a node was run on: saved arrays, and leaves that have not changed since."""
    held = () if node.saved is RELEASED else node.saved
    saved = dict(zip([(kind, i) for kind, i, _ in node.op.keeps], held))
    absent = getattr(node.op, "absent", lambda i: False)
    found = []
    for i, edge in enumerate(node.edges):
        array = saved.get(("input", i))
        if array is None and isinstance(edge, Traced):
            array = edge.data
        if array is None and not absent(i):
            path = layer_path(node.scope)
            raise GraphError(f"expand of {node.op!r}" + (f" in layer {path}" if path else ""),
                             got=f"a graph that does not hold input {i}: backward does not need it, or has freed it",
                             wanted="all inputs", hint="Pass them: expand(node, inputs)")
        if is_array(array) and written(array) > node.seq:
            raise GraphError(f"expand of {node.op!r}", got=f"input {i}, changed in place since",
                             wanted="its old values", hint="Pass the inputs: expand(node, inputs)")
        found.append(array)
    return tuple(found)


# ------------------------------------------------------------------ prove_equal


class _Program(Observer):
    """The operations that a function runs, in their order; holds the Tensors, so that identities stay unique."""

    def __init__(self) -> None:
        self.steps: list[tuple[Op, Any, Any]] = []

    def forward(self, op: Op, node: Any, scope: Any, inputs: Any, outputs: Any) -> None:
        self.steps.append((op, tuple(inputs), tuple(outputs)))

    def expanded(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The same outputs, computed with the text of every operation in its place."""
        now: dict[int, Tensor] = {}
        for op, inputs, results in self.steps:
            given = tuple(now.get(id(x), x) for x in inputs)
            inside = _Program()
            with observe(inside):
                made = run_text(op, given)
            if made is not None and isinstance(op, Recompute):  # whose text is of operations, not of their steps
                made = tuple(inside.expanded(made))
            for old, new in zip(results, _tuple(apply(op, *given)) if made is None else made):
                now[id(old)] = new
        return [now.get(id(y), y) for y in outputs]


@dataclass(frozen=True)
class Proof:
    """How far a fused computation is from its own definition.

    Attributes
    ----------
    what : str
    differences : dict from str to float
        For values and for the derivatives of each order the largest |difference| ÷ the largest |reference|.
    tolerance : float
    """

    what: str
    differences: dict[str, float]
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether all differences are within the tolerance."""
        return all(d <= self.tolerance for d in self.differences.values())

    def __str__(self) -> str:
        lines = [f"{self.what}: fused against its own steps"]
        lines += [f"  {name:<22}{d:8.1e}{'' if d <= self.tolerance else '  DIFFERS'}"
                  for name, d in self.differences.items()]
        return "\n".join([*lines, f"  {'equal' if self.equal else 'NOT EQUAL'} within {self.tolerance:g}"])


def prove_equal(layer: Any, *inputs: Any, orders: int = 3, tolerance: float = 1e-9, seed: int = 0, show: bool = True,
                check: bool = True) -> Proof:
    """Compare a layer with its own definition: every operation fused, against every operation's text step by step.

    Both are computed in float64, on a copy of the layer: values, the gradients of all inputs and parameters (on arrays,
    where kernels may serve, and recorded), and the derivatives of those, order by order, with random cotangents. An
    operation whose backward forgets how its saved values came about is right to first order and wrong from the second.

    Parameters
    ----------
    layer : Module, function of Tensors, or Op
    *inputs : Tensors, arrays or lists
        NaN and infinity in the results count as differences.
    orders : int
        The highest order of derivative.
    tolerance : float
        The largest allowed |difference|, as a part of the largest reference value of the same order.
    seed : int
        Of the cotangents.
    show : bool
        Print the report.
    check : bool
        Raise if anything differs.

    Returns
    -------
    Proof

    Raises
    ------
    GradientError
        A difference exceeds the tolerance; the message is the report.

    Examples
    --------
    >>> import numpy as np
    >>> from minigrad.expansion import prove_equal
    >>> from minigrad.layers import BatchNorm1d
    >>> proof = prove_equal(BatchNorm1d(2), np.random.default_rng(0).normal(size=(6, 2)), show=False)
    >>> list(proof.differences)
    ['values', 'gradients on arrays', 'gradients', 'order 2', 'order 3']
    >>> max(proof.differences.values()) < 1e-12
    True
    """
    what = repr(layer) if isinstance(layer, Op) else type(layer).__name__
    function, parameters = _in_float64(layer)
    leaves = [_wide_leaf(x) for x in inputs]
    program = _Program()
    with observe(program), enable_grad():
        fused = _several(function(*leaves))
    with enable_grad():
        steps = program.expanded(fused)
    live = [x for x in (*leaves, *parameters) if isinstance(x, Tensor) and x.requires_grad]
    differences = _compare(fused, steps, live, orders, np.random.default_rng(seed))
    proof = Proof(f"{what} on {', '.join(str(tuple(x.shape)) for x in leaves if isinstance(x, Tensor))}", differences,
                  tolerance)
    if show:
        print(proof)  # noqa: T201 - the report is what this function is called for
    if check and not proof.equal:
        raise GradientError("prove_equal", got=f"\n{proof}\n", wanted="no difference",
                            hint="Right to order 1 and wrong from order 2 means that backward uses an array whose "
                                 "history it has lost")
    return proof


def _in_float64(layer: Any) -> tuple[Any, list[Tensor]]:
    """A layer as a function, and its parameters: of a copy in float64, so that nothing of the layer itself changes."""
    if isinstance(layer, Op):
        return (lambda *xs: apply(layer, *xs)), []
    if not hasattr(layer, "parameters"):
        return layer, []
    same = copy.deepcopy(layer).to("float64")
    return same, [p.requires_grad_() for p in same.parameters()]


def _wide_leaf(x: Any) -> Any:
    if isinstance(x, Traced):
        x = x.data
    if isinstance(x, (list, float)):
        x = np.asarray(x)
    if not is_array(x):
        return x
    return Tensor(x, dtype=np.float64, requires_grad=True) if is_floating(x.dtype) else Tensor(x)


def _several(outputs: Any) -> list[Tensor]:
    """The floating-point Tensors among outputs."""
    return [y for y in (outputs if isinstance(outputs, (tuple, list)) else (outputs,)) if is_floating(y.dtype)]


def _compare(fused: list[Tensor], steps: list[Tensor], live: list[Tensor], orders: int,
             rng: np.random.Generator) -> dict[str, float]:
    """The largest relative difference of every order; each level is the gradient of ⟨u, the level before⟩."""
    found = {"values": _difference(fused, steps)}
    levels = fused, steps
    for order in range(1, orders + 1):
        us = [Tensor(rng.standard_normal(y.shape)) for y in levels[0]]
        if order == 1:
            first = _gradients(levels[0], us, live, False)
            found["gradients on arrays"] = _difference(first, _gradients(levels[1], us, live, False))
        levels = _gradients(levels[0], us, live, True), _gradients(levels[1], us, live, True)
        found["gradients" if order == 1 else f"order {order}"] = _difference(*levels)
    return found


def _gradients(ys: list[Tensor], us: list[Tensor], live: list[Tensor], create_graph: bool) -> list[Tensor]:
    """Gradients of Σ⟨u, y⟩ with respect to `live`; zeros where nothing depends on them."""
    used = [(y, u) for y, u in zip(ys, us) if y.requires_grad]
    if not used:
        return [x.zeros_like() for x in live]
    found = grad([y for y, _ in used], live, [u for _, u in used], create_graph=create_graph, retain_graph=True,
                 allow_unused=True)
    return [x.zeros_like() if g is None else g for x, g in zip(live, found)]


def _difference(found: list[Tensor], wanted: list[Tensor]) -> float:
    """max |difference| ÷ max |reference|, over all together."""
    # NumPy's max, unlike Python's, is NaN if anything is.
    largest = np.max([np.abs(w.numpy()).max(initial=0) for w in wanted], initial=0)
    apart = np.max([np.abs(f.numpy() - w.numpy()).max(initial=0) for f, w in zip(found, wanted)], initial=0)
    return float(apart / (largest or 1.0))
