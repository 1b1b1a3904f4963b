"""Text for the terminal: a table of layers, and the operations in order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from minigrad.run.table import Table
from minigrad.run.text import printable
from minigrad.viz.rows import Operation
from minigrad.viz.words import attribute_text, bytes_text, number_text, shape_text, time_text

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["listing", "summary"]


def summary(graph: Graph) -> str:
    """Layers as an indented tree, with shapes, parameters, buffers, bytes held for backward and times."""
    groups: dict[str | None, list[Operation]] = {}
    for op in graph.top_level():
        if not op.phase:
            groups.setdefault(op.module, []).append(op)
    rows: list[tuple[object, ...]] = []
    shown: set[str] = set()
    counted: set[str] = set()
    for module, ops in groups.items():
        depth = _headings(graph, module, rows, shown)
        outermost = module is None or not graph.module[module].path
        for part in [[op] for op in ops] if outermost else [ops]:
            row = graph.module[module] if module and not outermost else None
            name = "  " * depth + (row.path.rpartition(".")[2] if row else "·")
            rows.append((name, row.type if row else part[0].op, *_cells(graph, part, counted)))
    top = [op for op in graph.top_level() if not op.phase]
    rows.append(("total", "", "", *_totals(graph, top)))
    table = Table(("layer", "operation", "output", "parameters", "buffers", "held", "forward", "backward"), rows,  # type: ignore[arg-type]
                  align="lllrrrrr")
    lines = [printable(graph.meta.get("title", "")), "", table.text(), "", _footer(graph, top)]
    if "error" in graph.meta:
        lines.append(f"stopped by {graph.meta['error']['type']}: {printable(graph.meta['error']['message'])}")
    return "\n".join(lines)


def _headings(graph: Graph, module: str | None, rows: list[tuple[object, ...]], shown: set[str]) -> int:
    """Lines for the layers around one that have not been shown, and how deep it is."""
    if module is None:
        return 0
    chain = []
    parent = graph.module[module].parent
    while parent is not None:
        if graph.module[parent].path:
            chain.append(graph.module[parent])
        parent = graph.module[parent].parent
    for depth, row in enumerate(reversed(chain)):
        if row.id not in shown:
            shown.add(row.id)
            rows.append(("  " * depth + row.path.rpartition(".")[2], row.type, "", "", "", "", "", ""))
    return len(chain)


def _cells(graph: Graph, ops: list[Operation], counted: set[str]) -> tuple[str, ...]:
    """Output, parameters, buffers, bytes held, times. A parameter counts where it is first used."""
    out = next((graph.tensor[t] for op in reversed(ops) for t in op.outputs[:1] if t), None)
    sizes = {"param": 0, "buffer": 0}
    written = {m.tensor for m in graph.mutations if graph.op[m.op].parent in {op.id for op in ops}}
    for tensor in (*(u.tensor for op in ops for u in graph.uses_by_op[op.id]), *written):
        row = graph.tensor[tensor]
        if row.kind in sizes and tensor not in counted:
            counted.add(tensor)
            sizes[row.kind] += math.prod(row.shape)
    held = graph.held_bytes(ops)
    return (shape_text(out.shape) if out and out.dtype else "", f"{sizes['param']:,}" if sizes["param"] else "–",
            f"{sizes['buffer']:,}" if sizes["buffer"] else "–", bytes_text(held) if held else "–",
            _time(ops, "time_us"), _time(ops, "bwd_time_us"))


def _time(ops: list[Operation], name: str) -> str:
    times = [t for op in ops if (t := getattr(op, name)) is not None]
    return time_text(sum(times)) if times else "–"


def _totals(graph: Graph, ops: list[Operation]) -> tuple[str, ...]:
    read = {u.tensor for op in ops for u in graph.uses_by_op[op.id]}
    written = {m.tensor for m in graph.mutations}
    params = sum(math.prod(graph.tensor[t].shape) for t in read if graph.tensor[t].kind == "param")
    buffers = sum(math.prod(graph.tensor[t].shape) for t in read | written if graph.tensor[t].kind == "buffer")
    return (f"{params:,}", f"{buffers:,}", bytes_text(graph.held_bytes(ops)), _time(ops, "time_us"),
            _time(ops, "bwd_time_us"))


def _footer(graph: Graph, ops: list[Operation]) -> str:
    held = graph.held_bytes(ops)
    every = graph.held_bytes(ops, parameters=True)
    return (f"{bytes_text(held)} held for backward, every array once"
            + (f", besides {bytes_text(every - held)} of parameters" if every > held else "") + ".")


def listing(graph: Graph) -> str:
    """Operations in order, parts indented below the operation that they are part of."""
    lines = []
    pending = [(op, 0) for op in reversed(graph.top_level())]
    while pending:
        op, depth = pending.pop()
        lines.append("  " * depth + _line(graph, op))
        pending += [(graph.op[part], depth + 1) for part in reversed(op.body)]
    return "\n".join(lines)


def _line(graph: Graph, op: Operation) -> str:
    def tensor(t: str | None) -> str:
        row = graph.tensor[t] if t else None
        return "–" if row is None else f"{t} {printable(row.name)} {shape_text(row.shape)}" if row.dtype else str(t)

    uses = {u.arg: u for u in graph.uses_by_op[op.id]}
    said = []
    for arg, t in enumerate(op.inputs):
        use = uses.get(arg)
        grad = f" ∇{number_text(use.grad.norm)}" if use and use.grad else ""
        said.append(tensor(t) + grad + ("*" if use and use.saved else ""))
    out = ", ".join(tensor(t) + ("*" if k in op.kept else "") for k, t in enumerate(op.outputs) if t)
    path = graph.module[op.module].path if op.module else ""
    more = attribute_text({k: v for k, v in op.attrs.items() if v is not None})
    return printable(f"{op.id} {op.op}" + (f" [{path}]" if path else "") + f" ({', '.join(said)}) -> {out}"
                     + (f"   {more}" if more else ""))
