"""Layers, operations and their parts as a tree of boxes, each of which can be open or closed in a picture.

Whatever the program was, every box holds few children: long rows are folded where they repeat, and cut into chunks
where they don't. Chunks are stretches of the order in which operations ran, so closing one never makes a cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minigrad.viz.kinds import kind_of
from minigrad.viz.rows import Operation

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["Box", "build_tree"]

_PERIODS = 12  # longest row of neighbours that is looked for again
_PRIORITY = ("matmul", "norm", "loss", "reduce", "ew", "shape", "side", "error")


@dataclass
class Box:
    """A layer's call, an operation, a part, a chunk, a repeat, or a backward pass.

    `op` is set for operations and parts; `times` above 1 for a repeat, which shows its first child's name.
    """

    key: str
    title: str
    path: str = ""
    hyper: str = ""
    op: Operation | None = None
    children: list[Box] = field(default_factory=list)
    times: int = 1
    depth: int = 0
    layer: bool = False
    group: str | None = None
    signature: tuple[object, ...] = ()

    def operations(self) -> Iterator[Operation]:
        """Top-level operations inside, without parts of operations."""
        pending = [self]
        while pending:
            box = pending.pop()
            if box.op is not None:
                yield box.op
            else:
                pending += reversed(box.children)

    @property
    def kind(self) -> str:
        """The operation's kind; for what holds several, that of its weightiest one, or "block"."""
        if self.op is not None:
            return self.op.kind
        if any(child.layer or child.path or child.times > 1 for child in self.children) or not self.layer:
            return "block"
        own = kind_of(self.title)
        if own != "ew":
            return own
        kinds = {op.kind for op in self.operations()}
        return next((kind for kind in _PRIORITY if kind in kinds), "ew")


def build_tree(graph: Graph, fold: bool, phase: str, most: int) -> Box:
    """The tree of a graph.

    Parameters
    ----------
    fold : bool
        Fold equal neighbours, three or more, into one box.
    phase : "all", "forward" or "backward"
    most : int
        More children than this are cut into chunks.
    """
    root = Box("", str(graph.meta.get("title", "")))
    boxes: dict[str, Box] = {}
    sides: dict[str, list[Operation]] = {}
    for op in graph.ops:
        if op.parent is not None and op.kind == "side":
            sides.setdefault(op.parent, []).append(op)
    for op in sorted(graph.top_level(), key=lambda each: each.order):
        if phase == "all" or (op.phase > 0) == (phase == "backward"):
            parent = _home(graph, op, root, boxes, split=phase == "all")
            parent.children.append(_operation(graph, op, sides))
    _settle(root, 0, fold, most)
    return root


def _home(graph: Graph, op: Operation, root: Box, boxes: dict[str, Box], split: bool) -> Box:
    """The box of the innermost layer that an operation ran in; made with all around it if it is new."""
    chain = []
    module = graph.module[op.module] if op.module else None
    while module is not None:
        if module.path:  # the model as a whole is the picture
            chain.append(module)
        module = graph.module[module.parent] if module.parent else None
    parent = root
    if op.phase and split:
        key = f"pass:{op.phase}"
        if key not in boxes:
            several = graph.meta.get("backward_passes", 1) > 1
            boxes[key] = Box(key, f"backward pass {op.phase}" if several else "backward pass")
            root.children.append(boxes[key])
        parent = boxes[key]
    for module in reversed(chain):
        if module.id not in boxes:
            sign = "∇ " if module.phase else ""
            title = sign + module.type
            call = f" ({module.call})" if module.call > 1 else ""
            boxes[module.id] = Box(module.id, title, module.path + call, module.hyper, layer=True)
            parent.children.append(boxes[module.id])
        parent = boxes[module.id]
    return parent


def _operation(graph: Graph, op: Operation, sides: dict[str, list[Operation]]) -> Box:
    """The box of an operation with its parts."""
    box = Box(op.id, op.op, op=op, group=op.group)
    # Parts that can only be opened together are the children of the first of them.
    box.children = [_operation(graph, graph.op[part], sides) for part in op.body]
    if box.children:
        box.children += [Box(side.id, side.op, op=side) for side in sides.get(op.id, [])]
    shapes = tuple(tuple(graph.tensor[t].shape) for t in (*op.inputs, *op.outputs) if t)
    box.signature = (op.op, shapes, op.phase)
    return box


def _settle(root: Box, depth: int, fold: bool, most: int) -> None:
    """Depths, single children taken up, repeats folded, long rows cut; children first."""
    pending: list[tuple[Box, bool]] = [(root, False)]
    while pending:
        box, ready = pending.pop()
        if not ready:
            pending.append((box, True))
            for child in box.children:
                child.depth = box.depth + 1
                if child.op is None:
                    pending.append((child, False))
            continue
        box.children = [_lifted(child) for child in box.children]
        if fold:
            box.children = _folded(box.children, box.depth + 1)
        if len(box.children) > most:
            box.children = _chunked(box.key, box.children, most, box.depth + 1)
        box.signature = (box.title, *(child.signature for child in box.children))


def _lifted(box: Box) -> Box:
    """A layer with a single operation is drawn as that operation, under the layer's name."""
    if box.layer and len(box.children) == 1 and box.children[0].times == 1:
        child = box.children[0]
        if child.op is not None:
            child.title, child.path, child.hyper, child.depth = box.title, box.path, box.hyper, box.depth
            return child
    return box


def _folded(children: list[Box], depth: int) -> list[Box]:
    """Equal neighbours, or rows of them, that come three times or more, as one box each."""
    out: list[Box] = []
    at = 0
    while at < len(children):
        period, times = _repeat(children, at)
        if times < 3:
            out.append(children[at])
            at += 1
            continue
        rounds = [children[at + k * period:at + (k + 1) * period] for k in range(times)]
        members = [each[0] for each in rounds] if period == 1 else [
            Box(f"round:{each[0].key}", " · ".join(dict.fromkeys(b.title for b in each)), children=each,
                depth=depth + 1, signature=tuple(b.signature for b in each)) for each in rounds]
        title = members[0].title
        path = f"{children[at].path} … {children[at + period * times - 1].path}" if children[at].path else ""
        box = Box(f"repeat:{children[at].key}", title, path, children=members, times=times, depth=depth,
                  signature=("repeat", times, members[0].signature))
        out.append(box)
        at += period * times
    return out


def _repeat(children: list[Box], at: int) -> tuple[int, int]:
    """The period, and the number of rounds, that cover most from a place on."""
    best = (1, 1)
    for period in range(1, min(_PERIODS, (len(children) - at) // 3) + 1):
        times = 1
        first = [b.signature for b in children[at:at + period]]
        while [b.signature for b in children[at + times * period:at + (times + 1) * period]] == first:
            times += 1
        if times >= 3 and period * times > best[0] * best[1]:
            best = (period, times)
    return best


def _chunked(key: str, children: list[Box], most: int, depth: int) -> list[Box]:
    """A long row cut into at most about `most` stretches, and these again where they are long."""
    size = len(children)
    length = 1
    while -(-size // length) > most * 3 // 4:
        length *= 2
    out = []
    for start in range(0, size, length):
        part = children[start:start + length]
        if len(part) == 1:
            out.append(part[0])
            continue
        name = f"{start + 1}–{start + len(part)}"
        box = Box(f"chunk:{key}:{start}:{length}", f"{len(part)} operations", f"{name} of {size}", children=part,
                  depth=depth)
        if len(part) > most:
            box.children = _chunked(box.key, part, most, depth + 1)
        box.signature = (box.title,)
        out.append(box)
    return out
