"""Rows made from what happens: one `Builder` for a recorded program, and one for the inside of each operation."""

from __future__ import annotations

import inspect
import math
import weakref
from typing import Any

import numpy as np

from minigrad.backend import is_array, is_floating, memory, to_numpy
from minigrad.graph import Node, index_of, node_of
from minigrad.op import Traced, value
from minigrad.tensor import Buffer, Parameter
from minigrad.viz.kinds import kind_of
from minigrad.viz.rows import Operation, Storage, TensorRow, Use
from minigrad.viz.statistics import inner, number, summarize

__all__ = ["Builder", "Storages", "attributes", "roles"]

_MOST_PARTIALS = 12  # partial gradients of one tensor that are multiplied with each other
_roles: dict[type, tuple[str, ...]] = {}


def roles(op: type) -> tuple[str, ...]:
    """The names that an operation's text gives its arguments; a starred one stands for all that follow."""
    found = _roles.get(op)
    if found is None:
        named = list(inspect.signature(op.forward).parameters.values())[1:]  # type: ignore[attr-defined]
        found = _roles[op] = tuple(("*" if p.kind is p.VAR_POSITIONAL else "") + p.name for p in named)
    return found


def _role(op: Any, arg: int) -> str:
    names = roles(type(op))
    if names and names[-1].startswith("*") and arg >= len(names) - 1:
        return f"{names[-1][1:]}[{arg - len(names) + 1}]"
    return names[arg] if arg < len(names) else f"input {arg}"


def attributes(op: Any) -> dict[str, Any]:
    """Hyper-parameters of an operation, as JSON holds them."""
    slots = [s for c in reversed(type(op).__mro__) for s in getattr(c, "__slots__", ()) if not s.startswith("_")]
    return {s: _simple(getattr(op, s)) for s in slots if hasattr(op, s) and not is_array(getattr(op, s))}


def _simple(x: Any) -> Any:
    if isinstance(x, np.generic):
        x = x.item()
    if x is None or isinstance(x, (bool, int, str)):
        return x
    if isinstance(x, float):
        return x if math.isfinite(x) else str(x)
    if isinstance(x, (tuple, list)):
        return [_simple(each) for each in x]
    return str(x)


class Storages:
    """Memory by its owner: arrays that share an owner share a storage, and holding one of them holds all of it."""

    def __init__(self) -> None:
        self.rows: list[Storage] = []
        self._known: dict[int, tuple[Any, Storage]] = {}

    def of(self, array: Any, kind: str) -> str:
        """The storage of an array; a new one is of the given kind."""
        owner = memory(array)[0]
        entry = self._known.get(id(owner))
        if entry is None or entry[0]() is not owner:
            row = Storage(f"s{len(self.rows) + 1}", int(owner.nbytes), kind)
            self.rows.append(row)
            entry = self._known[id(owner)] = (weakref.ref(owner), row)
        return entry[1].id


class Builder:
    """Collects operations, tensors and uses.

    Arrays and nodes are known by weak references, so recording keeps no memory alive but partial gradients of tensors
    that are used more than once, until all of them have come.

    Parameters
    ----------
    prefix : str
        Ids begin with it.
    storages : Storages
    histograms : bool or None
        Whether statistics have histograms; None for no statistics.
    names : mapping from id of a Tensor to its name
    keep_partials : bool
        Keep the partial gradients themselves, in `partials`.
    """

    def __init__(self, prefix: str, storages: Storages, histograms: bool | None = True,
                 names: dict[int, str] | None = None, keep_partials: bool = False) -> None:
        self.prefix, self.storages, self.histograms = prefix, storages, histograms
        self.names = names or {}
        self.keep_partials = keep_partials
        self.ops: list[Operation] = []
        self.tensors: dict[str, TensorRow] = {}
        self.uses: list[Use] = []
        self.uses_of: dict[str, list[int]] = {}
        self.op_of: weakref.WeakKeyDictionary[Node, tuple[Operation, list[int]]] = weakref.WeakKeyDictionary()
        self.made: weakref.WeakKeyDictionary[Node, list[str | None]] = weakref.WeakKeyDictionary()
        self._arrays: dict[int, tuple[Any, str]] = {}
        self._waiting: dict[str, dict[int, Any]] = {}
        self.partials: dict[tuple[str, int], Any] = {}
        self.totals: dict[str, Any] = {}
        self.backward_steps = 0

    # ---------------------------------------------------------------- tensors

    def summary(self, array: Any) -> Any:
        """Statistics of an array, as far as they were asked for."""
        return None if self.histograms is None else summarize(value(array), self.histograms)

    def new_tensor(self, name: str, kind: str, array: Any) -> TensorRow:
        """A row for an array; for None, one whose shape is not known yet."""
        row = TensorRow(f"{self.prefix}t{len(self.tensors) + 1}", name, kind, [], "", 0)
        if array is not None:
            describe(row, array)
            row.storage = self.storages.of(array, kind)
            row.stats = self.summary(array)
            row.value = number(to_numpy(array).item()) if array.size == 1 and is_floating(array.dtype) else None
            self.bind(array, row.id)
        self.tensors[row.id] = row
        return row

    def bind(self, array: Any, tensor: str) -> None:
        """Let an array be known as a tensor from here on."""
        self._arrays[id(array)] = (weakref.ref(array), tensor)

    def find(self, x: Any) -> str | None:
        """The tensor that an argument is, if it was met before."""
        edge = x.edge if isinstance(x, Traced) else None
        if isinstance(edge, Traced):  # a leaf, as backward gets it back from what was saved
            x, edge = edge, None
        if edge is not None:
            made = self.made.get(node_of(edge))  # type: ignore[arg-type]
            return made[index_of(edge)] if made else None
        entry = self._arrays.get(id(value(x)))
        return entry[1] if entry is not None and entry[0]() is value(x) else None

    def tensor_of(self, x: Any, role: str) -> str | None:
        """The tensor that an argument is; a new one for what comes from outside. None for numbers and None."""
        if not isinstance(x, Traced) and not is_array(x):
            return None
        known = self.find(x)
        if known is not None:
            return known
        if isinstance(x, Traced) and isinstance(x.edge, Traced):
            x = x.edge
        kind = ("param" if isinstance(x, Parameter) else "buffer" if isinstance(x, Buffer) else
                "input" if isinstance(x, Traced) else "const")
        given = self.names.get(id(x)) or getattr(x, "name", None)
        row = self.new_tensor(given or role, kind, value(x))
        if isinstance(x, Traced) and x.edge is not None:  # made before the recording began
            node: Any = node_of(x.edge)
            row.name = given or f"{node.op.name} (earlier)"
            self.made.setdefault(node, [None] * (node.op.n_out + node.op.n_aux))[index_of(x.edge)] = row.id
        return row.id

    # ---------------------------------------------------------------- forward

    def forward(self, op: Any, node: Node | None, inputs: Any, outputs: Any) -> Operation:
        """One operation has run; `outputs` may hold None where an output is not known."""
        row = Operation(f"{self.prefix}{'' if self.prefix.endswith('.') else 'o'}{len(self.ops) + 1}", op.name,
                        kind_of(op.name), attrs=attributes(op), order=len(self.ops) + 1)
        doc = (type(op).__doc__ or "").strip()
        row.formula = "" if doc.startswith("One operation.") else doc.split("\n")[0].strip()
        places: list[int] = []  # of every argument's use; -1 for none
        for arg, x in enumerate(inputs):
            role = _role(op, arg)
            tensor = self.tensor_of(x, role)
            row.inputs.append(tensor)
            if tensor is None:
                if isinstance(x, (bool, int, float)):
                    row.attrs[role] = _simple(x)
                places.append(-1)
                continue
            places.append(len(self.uses))
            self.uses_of.setdefault(tensor, []).append(len(self.uses))
            live = node is not None and bool(node.needs[arg])
            self.uses.append(Use(row.id, arg, tensor, role, differentiable=live))
        made: list[str | None] = []
        for t in outputs:
            made.append(self.new_tensor(op.name.lower(), "act", value(t)).id)
        row.outputs = [t for t in made if t is not None]
        self.ops.append(row)
        if node is not None:
            self.made[node] = made
            self.op_of[node] = (row, places)
            for (source, i, _), array in zip(op.keeps, node.saved):
                if array is None or not is_array(array):
                    continue
                if source == "output":
                    row.kept.append(i)
                elif places[i] >= 0:
                    self.uses[places[i]].saved = True
        return row

    # ---------------------------------------------------------------- backward

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> Operation | None:
        """A node's backward has run; None if the node is not of this recording."""
        known = self.op_of.get(node)
        if known is None:
            return None
        row, places = known
        self.backward_steps += 1
        row.bwd_order = self.backward_steps
        for tensor, g in zip(row.outputs, output_gradients):
            if g is not None and tensor is not None:
                self._total(tensor, value(g))
                self._name_gradient(g, tensor)
        for arg, (need, g) in enumerate(zip(node.needs, input_gradients)):
            if need and g is not None and places[arg] >= 0:
                self._partial(places[arg], value(g))
                self._name_gradient(g, self.uses[places[arg]].tensor)
        return row

    def _name_gradient(self, g: Any, tensor: str) -> None:
        """Where backward is itself recorded (``create_graph=True``): name a gradient after what it is of."""
        found = self.find(g) if isinstance(g, Traced) else None
        if found is not None and found != tensor and not self.tensors[found].name.startswith("∇"):
            row = self.tensors[tensor]
            self.tensors[found].name = f"∇ {'loss' if row.kind == 'act' and row.value is not None else row.name}"

    def _partial(self, place: int, g: Any) -> None:
        use = self.uses[place]
        use.differentiable = True
        use.grad = self.summary(g)
        if self.keep_partials:
            self.partials[use.op, use.arg] = g
        alive = [i for i in self.uses_of[use.tensor] if self.uses[i].differentiable]
        if len(alive) > 1:
            self._waiting.setdefault(use.tensor, {})[place] = g
        elif self.histograms is not None:
            self.tensors[use.tensor].grad = use.grad

    def _total(self, tensor: str, g: Any) -> None:
        row = self.tensors[tensor]
        if not row.dtype:
            describe(row, g)
        row.grad = self.summary(g)
        if self.keep_partials:
            self.totals[tensor] = g
        self._multiply(tensor)

    def _multiply(self, tensor: str) -> None:
        """Inner products of the partial gradients of a tensor, which are then let go."""
        partials = self._waiting.pop(tensor, None)
        if not partials or self.histograms is None or len(partials) > _MOST_PARTIALS:
            return
        row, arrays = self.tensors[tensor], list(partials.values())
        row.gram_uses = list(partials)
        row.gram = [[number(inner(a, b)) or 0.0 for b in arrays] for a in arrays]

    def finish(self) -> None:
        """The recording is over: leaves have their total gradients now."""
        for tensor in list(self._waiting):
            arrays = list(self._waiting[tensor].values())
            if self.tensors[tensor].grad is None or len(arrays) > 1:
                total = arrays[0]
                for g in arrays[1:]:
                    total = total + g
                self._total(tensor, total)
            self._multiply(tensor)


def describe(row: TensorRow, array: Any) -> None:
    """Fill in shape, dtype and bytes."""
    row.shape, row.dtype, row.nbytes = [int(n) for n in array.shape], str(array.dtype), int(array.nbytes)
