"""Capture: what a program does inside `with record(model):`, as a `Graph`.

Nothing here runs unless asked for. A recorder is an observer: it is told of operations and of backward steps by the
engine, which pays one test per operation while there is none.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from minigrad import engine
from minigrad.errors import ArgumentError
from minigrad.graph import Node
from minigrad.layers.module import Module as Layer
from minigrad.modes import STEP, current, switch
from minigrad.observers import Observer, observe, wait_for
from minigrad.op import value
from minigrad.viz.builder import Builder, Storages
from minigrad.viz.expansion import expand
from minigrad.viz.failure import failure
from minigrad.viz.graph import Graph
from minigrad.viz.kinds import COMPOSITE
from minigrad.viz.rows import Module, Mutation, Operation, Use

__all__ = ["Recorder", "Statistics", "record"]

Statistics = Literal["hist", "summary"] | None


class Recorder(Observer):
    """Records operations while its `with` block runs. Made by `record`."""

    def __init__(self, model: Layer | None, stats: Statistics, expand: bool | str, times: bool, keep_partials: bool,
                 most_bodies: int, title: str) -> None:
        if stats not in ("hist", "summary", None):
            raise ArgumentError("record", got=f"stats={stats!r}", wanted="'hist', 'summary' or None")
        parameters = [] if model is None else list(model.named_parameters())
        named = [*parameters, *([] if model is None else model.named_buffers())]
        self.model, self.title, self.times, self.opening, self.most_bodies = model, title, times, expand, most_bodies
        self.storages = Storages()
        histograms = None if stats is None else stats == "hist"
        self.builder = Builder("", self.storages, histograms, {id(t): name for name, t in named}, keep_partials)
        for k, (_, t) in enumerate(named):  # first, so that memory they own is known as theirs
            self.storages.of(t.data, "param" if k < len(parameters) else "buffer")
        self.modules: dict[str, Module] = {}
        self.mutations: list[Mutation] = []
        self.extra: list[Operation] = []
        self.extra_uses: list[Use] = []
        self.extra_tensors: dict[str, Any] = {}
        self._scopes: dict[tuple[int, int], tuple[Any, str]] = {}
        self._calls: dict[tuple[str, int], int] = {}
        self._opened: dict[str, tuple[Any, list[Any], Any]] = {}
        self._bodies = 0
        self._runs, self._last = 0, 0
        self._error: dict[str, Any] = {}
        self._removers: list[Callable[[], None]] = []
        self._before: list[dict[str, Any]] = []
        self._switch: Any = None
        self._graph: Graph | None = None
        self._clock = time.perf_counter()

    # ---------------------------------------------------------------- the block

    def __enter__(self) -> Recorder:
        if self.model is not None:
            for layer in self.model.modules():
                if any(True for _ in layer.named_buffers(recurse=False)):
                    self._removers += [layer.register_forward_pre_hook(self._note_buffers),
                                       layer.register_forward_hook(self._compare_buffers)]
        self._switch = observe(self)
        self._switch.__enter__()
        self._clock = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._switch.__exit__(kind, error, trace)
        for remove in self._removers:
            remove()
        self._removers = []
        if error is not None and trace is not None:
            self._failed(error, trace)
        for name in list(self._opened):
            self._open(name, None)
        self.builder.finish()

    def adopt(self, model: Layer) -> None:
        """Take the names of parameters and buffers from a model that was made inside the block."""
        self.model = model
        for kind, named in (("param", model.named_parameters()), ("buffer", model.named_buffers())):
            for name, tensor in named:
                found = self.builder.find(tensor)
                if found is not None:
                    row = self.builder.tensors[found]
                    row.name, row.kind = name, kind
        self._graph = None

    @property
    def graph(self) -> Graph:
        """What was recorded. After an error in the block: everything up to the operation that failed."""
        if self._graph is None:
            self._graph = self._build()
        return self._graph

    @property
    def partials(self) -> dict[tuple[str, int], Any]:
        """With ``keep_partials=True``: (operation's id, argument) to the partial gradient through that edge."""
        return self.builder.partials

    # ---------------------------------------------------------------- events

    def forward(self, op: Any, node: Node | None, scope: Any, inputs: Any, outputs: Any) -> None:
        """Told by the engine: an operation has run."""
        if self.times:
            wait_for(outputs)
        elapsed = time.perf_counter() - self._clock
        phase = self._phase()
        if phase is None:  # the engine adds to a `.grad`: no part of any graph
            return
        row = self.builder.forward(op, node, inputs, outputs)
        row.phase, row.module = phase, self._module(scope, phase)
        row.time_us = round(elapsed * 1e6, 1) if self.times else None
        if node is not None and not phase and self._wants(op) and len(self._opened) + self._bodies < self.most_bodies:
            self._opened[row.id] = (op, [value(x) for x in inputs], node.needs)
        self._clock = time.perf_counter()

    def backward(self, node: Node, output_gradients: Any, input_gradients: Any) -> None:
        """Told by the engine: a node's backward has run."""
        if self.times:
            wait_for(input_gradients)
        elapsed = time.perf_counter() - self._clock
        self._enter_run(node.seq)
        row = self.builder.backward(node, output_gradients, input_gradients)
        if row is not None:
            row.bwd_time_us = round(elapsed * 1e6, 1) if self.times else None
            if row.id in self._opened:
                self._open(row.id, [value(g) for g in output_gradients])
        self._clock = time.perf_counter()

    def _wants(self, op: Any) -> bool:
        return self.opening == "all" or (bool(self.opening) and COMPOSITE.search(op.name) is not None)

    # ---------------------------------------------------------------- backward passes

    def _enter_run(self, seq: int) -> None:
        """Within one backward pass numbers fall; a higher one begins the next pass."""
        if seq > self._last:
            self._runs += 1
        self._last = seq

    def _phase(self) -> int | None:
        """0 for an operation of the program itself, k for one that the k-th backward pass records; None for what adds
        gradients up in leaves.
        """
        frame: Any = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            if code is engine._backward_of.__code__:
                self._enter_run(frame.f_locals["node"].seq)
                return self._runs
            if code is engine._run.__code__:
                return self._runs
            if code is engine.backward.__code__:
                return None
            frame = frame.f_back
        self._last = 0
        return 0

    # ---------------------------------------------------------------- layers

    def _module(self, scope: Any, phase: int) -> str | None:
        """The row of the layer call that a scope stands for: every call pushes a new tuple."""
        while scope is not None and scope[2] == STEP:  # a step of an operation's text is no layer
            scope = scope[0]
        if scope is None:
            return None
        key = (id(scope), phase)
        if key in self._scopes:
            return self._scopes[key][1]
        outer, name, kind = scope
        parent = self._module(outer, phase)
        path = ".".join(part for part in (self.modules[parent].path if parent else "", name) if part)
        call = self._calls[path, phase] = self._calls.get((path, phase), 0) + 1
        made = f"m:{path}" + (f"#{call}" if call > 1 else "") + (f"~{phase}" if phase else "")
        self.modules[made] = Module(made, path, kind, parent, call, phase)
        self._scopes[key] = (scope, made)  # the scope is held, so that its id stays its own
        return made

    def _note_buffers(self, layer: Layer, _: Any) -> None:
        self._before.append({name: b.data for name, b in layer.named_buffers(recurse=False)})

    def _compare_buffers(self, layer: Layer, _: Any, __: Any) -> None:
        """Buffers are rebound when they are updated: another array says that there was an update."""
        before = self._before.pop()
        after = dict(layer.named_buffers(recurse=False))
        changed = {name: b for name, b in after.items() if before.get(name) is not b.data and b.data.ndim}
        scope = current().scope
        if changed and scope is not None and not current().recomputing:
            self._update(layer, self._module(scope, 0), changed)

    def _update(self, layer: Any, module: str | None, changed: dict[str, Any]) -> None:
        """Draw the update of running statistics as a side effect of the operation that gave the statistics."""
        source = next((op for op in reversed(self.builder.ops) if op.module == module and "Norm" in op.op), None)
        if source is None or len(source.outputs) < 3:
            return
        row = Operation(f"{source.id}.u", "EMA update", "side", module, parent=source.id, order=source.order)
        row.formula = "running ← (1 − a)·running + a·statistic, the variance times m/(m − 1)"
        count = self.builder.tensors[source.outputs[0]]
        row.attrs = {"momentum": getattr(layer, "momentum", None)}
        size, channels = _size(count.shape), max(1, _size(self.builder.tensors[source.outputs[1]].shape))
        if size // channels > 1:
            row.attrs["values per channel"] = size // channels
        for k, (name, buffer) in enumerate(changed.items()):
            tensor = self.builder.new_tensor(self.builder.names.get(id(buffer), name), "buffer", buffer.data)
            row.outputs.append(tensor.id)
            self.mutations.append(Mutation(row.id, tensor.id))
            statistic = source.outputs[1 + min(k, 1)]
            row.inputs.append(statistic)
            self.extra_uses.append(Use(row.id, k, statistic, "mean" if k == 0 else "variance"))
        self.extra.append(row)

    # ---------------------------------------------------------------- opening operations

    def _open(self, name: str, gradients: list[Any] | None) -> None:
        """Open one operation, now that the gradients of its outputs are known (or none will come)."""
        op, inputs, needs = self._opened.pop(name)
        row = next(each for each in reversed(self.builder.ops) if each.id == name)
        with switch(observers=(), recording=True):
            self._bodies += self._add_body(row, op, inputs, needs, gradients or [None] * op.n_out, 0)

    def _add_body(self, row: Operation, op: Any, inputs: list[Any], needs: Any, gradients: list[Any],
                  depth: int) -> bool:
        tensors, histograms = self.builder.tensors, self.builder.histograms
        body = expand(op, row.id, inputs, row.inputs, row.outputs, needs, gradients, self.storages, histograms)
        if body is None:
            return False
        inner = body.builder
        parts = [*body.steps, *inner.ops]
        for part in parts:
            part.parent, part.module, part.kept = part.parent or row.id, row.module, []
        uses = [*body.step_uses, *inner.uses]
        for use in uses:
            use.saved = False
        self._hand_down_kept(row, parts, uses)
        for key, tensor in inner.tensors.items():
            known = tensors.get(key) or self.extra_tensors.get(key)
            if known is None:
                self.extra_tensors[key] = tensor
            elif known.grad is None:
                known.grad = tensor.grad
        for tensor in inner.tensors.values():  # inner products refer to uses by their number, which changes here
            tensor.gram_uses, tensor.gram = [], []
        for step in body.steps:  # x̂, μ and σ² are better called by their steps' names than by their last primitive's
            for t in step.outputs:
                if t != row.outputs[0]:
                    (tensors.get(t) or self.extra_tensors[t]).name = step.op.lower()
        row.body = [part.id for part in (body.steps or inner.ops)]
        self.extra += parts
        self.extra_uses += uses
        if self.builder.keep_partials:
            self.builder.partials |= body.partials
        if depth < 2:
            for name, (part_op, part_inputs, part_needs) in body.nested.items():
                part = next(each for each in inner.ops if each.id == name)
                totals = [inner.totals.get(t) for t in part.outputs[:part_op.n_out]]
                self._add_body(part, part_op, part_inputs, part_needs, totals, depth + 1)
        return True

    def _hand_down_kept(self, row: Operation, parts: list[Operation], uses: list[Use]) -> None:
        """What the operation holds for backward, shown where it belongs inside: an output at the part that makes it, an
        input at the part that reads it last.
        """
        held = {row.outputs[k] for k in row.kept}
        for part in parts:
            part.kept = [k for k, t in enumerate(part.outputs) if t in held]
        inputs = {u.tensor for u in (*self.builder.uses, *self.extra_uses) if u.op == row.id and u.saved}
        steps = {part.id for part in parts if part.body}
        for level in (True, False):
            for tensor in inputs:
                readers = [u for u in uses if u.tensor == tensor and (u.op in steps) is level]
                if readers:
                    readers[-1].saved = True

    # ---------------------------------------------------------------- the end

    def _failed(self, error: BaseException, trace: TracebackType) -> None:
        found = failure(error, trace)
        self._error = {"type": type(error).__name__, "message": str(error)}
        name, scope, inputs, attrs = found.name, found.scope, found.inputs, found.attrs
        row = Operation(f"o{len(self.builder.ops) + 1}", name, "error", self._module(scope, 0), attrs=attrs,
                        text=str(error), order=len(self.builder.ops) + 1)
        for arg, x in enumerate(inputs):
            tensor = self.builder.tensor_of(x, f"input {arg}")
            row.inputs.append(tensor)
            if tensor is not None:
                self.builder.uses.append(Use(row.id, arg, tensor, f"input {arg}"))
        self.builder.ops.append(row)

    def _build(self) -> Graph:
        if self.model is not None:
            layers = dict(self.model.named_modules(remove_duplicate=False))
            for module in self.modules.values():
                layer = layers.get(module.path)
                if layer is not None and type(layer).__name__ == module.type:
                    module.training, module.hyper = layer.training, layer.extra_repr()
        builder = self.builder
        ops = [*builder.ops, *self.extra]
        tensors = {**builder.tensors, **self.extra_tensors}
        first = next((t for t in tensors.values() if t.kind in ("input", "act") and t.shape), None)
        name = "graph" if self.model is None else type(self.model).__name__
        meta: dict[str, Any] = {"title": self.title or name}
        if self.model is not None:
            meta["training"] = self.model.training
        if first is not None:
            meta["dtype"] = first.dtype
        meta["backward_passes"] = self._runs
        if self._error:
            meta["error"] = self._error
        return Graph(meta, list(self.modules.values()), self.storages.rows, list(tensors.values()), ops,
                     [*builder.uses, *self.extra_uses], self.mutations)


def _size(shape: list[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total


def record(model: Layer | None = None, *, stats: Statistics = "hist", expand: bool | Literal["all"] = True,
           times: bool = True, keep_partials: bool = False, most_bodies: int = 64, title: str = "") -> Recorder:
    """Record what the block computes, forward and backward.

    Parameters
    ----------
    model : Module, optional
        Gives names to parameters and buffers, and lets updates of running statistics be seen.
    stats : "hist", "summary" or None
        Statistics of every tensor and every gradient, with or without histograms.
    expand : bool or "all"
        Also open operations into their parts: normalizations, softmax, losses and attention, or all that can be.
    times : bool
        The time of every operation: from the end of the one before, Python in between included. One call, not a mean.
    keep_partials : bool
        Keep the partial gradients as arrays, in `Recorder.partials`.
    most_bodies : int
        Open at most this many operations.
    title : str
        What the picture is called.

    Returns
    -------
    Recorder
        Its `graph` is what was recorded, also after an error inside the block.

    Examples
    --------
    >>> import minigrad
    >>> from minigrad import layers, viz
    >>> model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4))
    >>> with viz.record(model) as rec:
    ...     model(minigrad.ones(5, 3)).sum().backward()
    >>> [op.op for op in rec.graph.top_level()]
    ['Linear', 'BatchNorm', 'Sum']
    """
    return Recorder(model, stats, expand, times, keep_partials, most_bodies, title)
