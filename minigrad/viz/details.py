"""What the page tells about an operation and a tensor when they are clicked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from minigrad.run.text import printable
from minigrad.viz.rows import Operation, Statistics, TensorRow
from minigrad.viz.words import attribute_text, bytes_text, number_text, shape_text, size_text, time_text

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["keepers_of", "operation_details", "tensor_details"]


def operation_details(graph: Graph, op: Operation) -> dict[str, Any]:
    """Facts, inputs with the gradients of their edges, and outputs."""
    facts = []
    module = graph.module[op.module] if op.module else None
    if module is not None:
        facts.append(["layer", f"{module.path} {module.type}({module.hyper})".strip()])
    if op.formula:
        facts.append(["formula", op.formula])
    if op.text:
        facts.append(["text", op.text])
    attrs = attribute_text({k: v for k, v in op.attrs.items() if v is not None})
    if attrs:
        facts.append(["attributes", attrs])
    held = graph.held_bytes([op])
    if held:
        kept = {t for t in (*(op.outputs[k] for k in op.kept), *(u.tensor for u in graph.uses_by_op[op.id] if u.saved))
                if graph.tensor[t].kind not in ("param", "buffer")}
        own = sum(graph.tensor[t].nbytes for t in kept)
        shared = f", of memory that is shared: {bytes_text(own)} are its own" if own < held else ""
        facts.append(["keeps for backward", bytes_text(held) + shared])
    if op.time_us is not None:
        facts.append(["forward", time_text(op.time_us)])
    if op.bwd_time_us is not None:
        facts.append(["backward", time_text(op.bwd_time_us) + (f", step {op.bwd_order}" if op.bwd_order else "")])
    uses = {use.arg: use for use in graph.uses_by_op[op.id]}
    inputs = []
    for arg, t in enumerate(op.inputs):
        if t is None:
            continue
        use, row = uses.get(arg), graph.tensor[t]
        grad = number_text(use.grad.norm) if use and use.grad else ""
        name = row.name if use is None or not use.role or row.kind in ("param", "buffer") else use.role
        inputs.append([printable(name), shape_text(row.shape) if row.dtype else "", grad, bool(use and use.saved)])
    outputs = [t for t in op.outputs if t and graph.tensor[t].dtype]
    return {"name": printable(op.op), "facts": [[k, printable(v)] for k, v in facts], "in": inputs, "out": outputs[:4]}


def keepers_of(graph: Graph) -> dict[str, list[str]]:
    """Per tensor the names of the operations that hold it for backward."""
    found: dict[str, list[str]] = {}
    for op in graph.top_level():
        for t in (*(op.outputs[k] for k in op.kept), *(u.tensor for u in graph.uses_by_op[op.id] if u.saved)):
            if t:
                found.setdefault(t, []).append(op.op)
    return found


def tensor_details(graph: Graph, row: TensorRow, keepers: list[str]) -> dict[str, Any]:
    """Shape, bytes, statistics and histograms of a tensor and of its total gradient."""
    facts = [["shape", size_text(row.shape, row.dtype)], ["bytes", bytes_text(row.nbytes)]] if row.dtype else []
    if keepers:
        facts.append(["kept for", ", ".join(dict.fromkeys(map(printable, keepers)))])
    if row.value is not None:
        facts.append(["value", number_text(row.value, 5)])
    return {"name": printable(row.name), "kind": row.kind, "facts": facts, "values": _numbers(row.stats),
            "grad": _numbers(row.grad)}


def _numbers(stats: Statistics | None) -> dict[str, Any] | None:
    if stats is None:
        return None
    facts = [["norm", number_text(stats.norm)], ["mean, std", f"{number_text(stats.mean)}, {number_text(stats.std)}"],
             ["from, to", f"{number_text(stats.min)}, {number_text(stats.max)}"],
             ["zeros", f"{100 * stats.zeros:.3g} %"]]
    if stats.nonfinite:
        facts.append(["not finite", f"{stats.nonfinite:,}"])
    return {"facts": facts, "hist": stats.hist or []}
