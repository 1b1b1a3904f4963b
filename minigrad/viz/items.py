"""From open and closed boxes to nodes with their lines of text, and edges with their gradients."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from minigrad.viz.choice import Choice, operations_of, parts_of
from minigrad.viz.rows import Operation, TensorRow, Use
from minigrad.viz.scene import Cluster, Edge, Node, View
from minigrad.viz.words import attribute_text, bytes_text, count_text, name_text, shape_text

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["draw"]

_MOST_INPUTS = 3  # inputs from outside that one node may have before they are drawn as one
_MOST_READERS = 3  # nodes that read one input before each is given a copy
_MOST_PARALLEL = 3  # tensors between two nodes before they are drawn as one edge
_QUIET = {"shape", "ndim", "axis", "keepdims", "param_shape", "reduce", "stride", "padding", "dilation", "groups"}


def draw(graph: Graph, choice: Choice, fold_params: bool = True) -> View:
    """The picture of a graph under a choice of what is open."""
    artist = _Artist(graph, choice, fold_params)
    artist.place()
    artist.connect()
    artist.results()
    artist.number_turns()
    artist.straighten()
    notes = []
    if "error" in graph.meta:
        notes.append(f"{graph.meta['error']['type']}: {graph.meta['error']['message']}")
    return View(str(graph.meta.get("title", "")), list(artist.nodes.values()), artist.edges, artist.clusters,
                frozenset(choice.opened), notes)


class _Artist:
    def __init__(self, graph: Graph, choice: Choice, fold_params: bool) -> None:
        self.graph, self.choice, self.fold_params = graph, choice, fold_params
        self.nodes: dict[str, Node] = {}
        self.edges: list[Edge] = []
        self.clusters: list[Cluster] = []
        self.home: dict[str, str] = {}  # operation -> node
        self.made: dict[str, str] = {}  # tensor -> operation
        self.number = {id(use): k for k, use in enumerate(graph.uses)}
        self.readers: dict[str, list[Use]] = defaultdict(list)
        self.folded: dict[str, list[TensorRow]] = defaultdict(list)

    # ---------------------------------------------------------------- nodes

    def place(self) -> None:
        """Nodes for closed boxes, clusters for open ones."""
        for box, cluster, is_open in parts_of(self.choice):
            if is_open:
                key = box.group or box.key
                title = "Moments" if box.group is not None and box.title in ("Mean", "Variance") else box.title
                self.clusters.append(Cluster(key, title, box.path, box.hyper, box.kind, cluster))
                continue
            node = Node(box.key, box.title, box.kind, path=box.path, cluster=cluster, openable=bool(box.children),
                        times=box.times)
            node.shape = {"side": "side", "error": "error"}.get(box.kind, "box")
            for op in operations_of(box):
                self.home[op.id] = box.key
                node.ops.append(op.id)
                for t in op.outputs:
                    if t:
                        self.made[t] = op.id
            self.nodes[box.key] = node
        for op_id in self.home:
            for use in self.graph.uses_by_op[op_id]:
                self.readers[use.tensor].append(use)

    def describe(self, node: Node) -> None:
        """The lines below a node's title."""
        ops = [self.graph.op[o] for o in node.ops]
        single = ops[0] if len(ops) == 1 else None
        if node.shape == "side" and single is not None:
            node.rows.append(("text", attribute_text({k: v for k, v in single.attrs.items() if k == "momentum"})))
            return
        if node.shape == "error":
            node.rows.append(("warn", "failed here"))
            return
        params = [t for t in self.folded[node.key] if t.kind == "param"]
        buffers = [t for t in self.folded[node.key] if t.kind == "buffer"]
        if single is not None and single.parent is not None and not params:
            said = attribute_text({k: v for k, v in single.attrs.items() if k not in _QUIET and v is not None})
            if said and len(said) <= 24:
                node.rows.append(("text", said))
        if single is None and len(ops) > 1 and not node.key.startswith("chunk:"):
            node.rows.append(("soft", count_text(len(ops), "operation")))
        node.rows += _tensor_lines(params, "params") + _tensor_lines(buffers, "soft")
        held = self.graph.held_bytes(ops)
        if held:
            node.rows.append(("soft", f"keeps {bytes_text(held)}"))
        if node.times > 1:
            node.title = f"{node.times} × {node.title}"

    # ---------------------------------------------------------------- edges

    def connect(self) -> None:
        """Edges between nodes, nodes for inputs, lines for parameters."""
        pairs: dict[tuple[str, str], dict[str, list[Use]]] = defaultdict(lambda: defaultdict(list))
        outside: dict[str, dict[str, list[Use]]] = defaultdict(lambda: defaultdict(list))
        for tensor, uses in self.readers.items():
            row = self.graph.tensor[tensor]
            maker = self.made.get(tensor)
            for use in uses:
                target = self.home[use.op]
                if maker is not None:
                    if self.home[maker] != target:
                        pairs[self.home[maker], target][tensor].append(use)
                elif row.kind in ("param", "buffer") and self.fold_params:
                    if row not in self.folded[target]:
                        self.folded[target].append(row)
                else:
                    outside[target][tensor].append(use)
        for node in list(self.nodes.values()):
            self.describe(node)
        self.inputs(outside)
        for (source, target), tensors in pairs.items():
            self.add_edges(source, target, tensors)
        for mutation in self.graph.mutations:
            if mutation.op in self.home:
                self.mutation(self.graph.op[mutation.op], self.graph.tensor[mutation.tensor])
        self.edges.sort(key=lambda e: (self.rank(e.source), self.rank(e.target)))

    def rank(self, key: str) -> int:
        """The place of a node in the program."""
        ops = self.nodes[key].ops
        return self.graph.op[ops[0]].order if ops else 0

    def inputs(self, outside: dict[str, dict[str, list[Use]]]) -> None:
        """What comes from outside the program as nodes of their own; many of one reader as one."""
        for target, tensors in outside.items():
            few = {t: u for t, u in tensors.items() if len(self.readers[t]) == len(u)}
            if len(few) > _MOST_INPUTS:
                key = f"inputs:{target}"
                self.nodes[key] = Node(key, count_text(len(few), "input"), "input", "ellipse",
                                       cluster=self.nodes[target].cluster)
                nbytes = sum(self.graph.tensor[t].nbytes for t in few)
                numbers = [self.number[id(u)] for each in few.values() for u in each]
                self.edges.append(Edge(key, target, next(iter(few)), "", None, nbytes, "none", uses=numbers))
                tensors = {t: u for t, u in tensors.items() if t not in few}
            for tensor, uses in tensors.items():
                row = self.graph.tensor[tensor]
                key = f"tensor:{tensor}"
                if len({self.home[u.op] for u in self.readers[tensor]}) > _MOST_READERS:
                    key += f"@{target}"  # one line across the whole picture per reader would hide everything else
                if key not in self.nodes:
                    kind = row.kind if row.kind in ("param", "buffer") else "input"
                    shape = "cylinder" if kind == "buffer" else "note" if kind == "param" else "ellipse"
                    said = [("text", shape_text(row.shape))] if row.dtype else []
                    self.nodes[key] = Node(key, name_text(row.name), kind, shape, rows=said, tensor=tensor)
                self.add_edges(key, target, {tensor: uses})

    def add_edges(self, source: str, target: str, tensors: dict[str, list[Use]]) -> None:
        """One edge per tensor between two nodes, or one for many."""
        found = [self.edge(source, target, tensor, uses) for tensor, uses in tensors.items()]
        if len(found) > _MOST_PARALLEL:
            found.sort(key=lambda e: -e.nbytes)
            total = sum(e.nbytes for e in found)
            uses = [u for e in found for u in e.uses]
            found = [Edge(source, target, found[0].tensor, count_text(len(found), "tensor"), None, total, found[0].kind,
                          any(e.saved for e in found), order=found[0].order, uses=uses)]
        self.edges += found

    def edge(self, source: str, target: str, tensor: str, uses: list[Use]) -> Edge:
        """The edge of one tensor."""
        row = self.graph.tensor[tensor]
        numbers = [self.number[id(u)] for u in uses]
        alive = [u for u in uses if u.grad is not None]
        kind = "data" if any(u.differentiable for u in uses) else "none"
        if any(self.graph.op[u.op].kind == "side" for u in uses):
            kind = "update"
        orders = [(*o, u.arg) for u in alive if (o := self.turn(self.graph.op[u.op]))]
        label = shape_text(row.shape) if row.dtype and not source.startswith("tensor:") else ""
        return Edge(source, target, tensor, label, self.gradient(row, uses, numbers), row.nbytes, kind,
                    any(u.saved for u in uses), order=min(orders) if orders else None, uses=numbers)

    def turn(self, op: Operation) -> tuple[int, ...]:
        """When an operation's backward ran: by the operation that it is a part of, then by its own place in that."""
        if op.bwd_order is None:
            return ()
        whole = self.graph.op[op.parent] if op.parent else None
        if whole is not None and whole.parent is not None and whole.id.rpartition(".")[2][0] == "s":
            whole = self.graph.op[whole.parent]  # a step numbers its primitives as the operation does
        return (*(self.turn(whole) if whole is not None else ()), op.bwd_order)

    def gradient(self, row: TensorRow, uses: list[Use], numbers: list[int]) -> float | None:
        """The norm of the sum of the partial gradients through several uses of one tensor."""
        alive = [(u, k) for u, k in zip(uses, numbers) if u.grad is not None]
        if len(alive) <= 1:
            grad = alive[0][0].grad if alive else None
            return grad.norm if grad else None
        places = [row.gram_uses.index(k) for _, k in alive if k in row.gram_uses]
        if len(places) == len(alive):
            return math.sqrt(max(0.0, sum(row.gram[i][j] for i in places for j in places)))
        return row.grad.norm if row.grad and len(alive) == len(self.readers[row.id]) else None

    def mutation(self, op: Operation, row: TensorRow) -> None:
        """A buffer that is given a new value: a cylinder at the end of a dashed edge."""
        key = f"tensor:{row.id}"
        name = row.name.rpartition(".")[2]
        self.nodes[key] = Node(key, name, "buffer", "cylinder", rows=[("text", shape_text(row.shape))],
                               cluster=self.nodes[self.home[op.id]].cluster, tensor=row.id)
        self.edges.append(Edge(self.home[op.id], key, row.id, "", None, row.nbytes, "update"))

    # ---------------------------------------------------------------- results

    def results(self) -> None:
        """What the program ends in: tensors that nobody reads. Gradients that one node ends in are one result."""
        ends: list[tuple[str, TensorRow]] = []
        gradients: dict[str, list[TensorRow]] = defaultdict(list)
        for node in self.nodes.values():
            for op_id in node.ops:
                op = self.graph.op[op_id]
                t = op.outputs[0] if op.outputs else None
                if t and not self.readers[t] and op.kind != "side" and self.graph.tensor[t].dtype:
                    row = self.graph.tensor[t]
                    if row.name.startswith("∇"):
                        gradients[node.key].append(row)
                    else:
                        ends.append((node.key, row))
        if len(ends) > 6:
            ends = [(source, row) for source, row in ends
                    if row.value is not None and not self.graph.op[self.made[row.id]].phase][-3:]
        for source, row in ends:
            title = "loss" if row.value is not None else "result"
            about = f"{row.value:.4g}" if row.value is not None else shape_text(row.shape)
            self.result(source, row, title, "loss" if row.value is not None else "input", [about])
        for source, rows in gradients.items():
            if len(rows) == 1:
                self.result(source, rows[0], name_text(rows[0].name), "input", [shape_text(rows[0].shape)])
                continue
            said = [f"{name_text(row.name)} {shape_text(row.shape)}" for row in rows[:4]]
            more = [f"and {len(rows) - 4} more"] if len(rows) > 4 else []
            self.result(source, rows[0], count_text(len(rows), "gradient"), "input", said + more)

    def result(self, source: str, row: TensorRow, title: str, kind: str, said: list[str]) -> None:
        """One node for what the program ends in."""
        key = f"result:{row.id}"
        self.nodes[key] = Node(key, title, kind, "loss", rows=[("text", each) for each in said], tensor=row.id)
        grad = row.grad.norm if row.grad else None
        self.edges.append(Edge(source, key, row.id, "", grad, row.nbytes, "data" if grad is not None else "none",
                               order=(0,) if grad is not None else None))

    def straighten(self) -> None:
        """Mark the main path of each pass, and the edges from one pass to another, which are not to bend it."""
        phase = {key: self.graph.op[node.ops[0]].phase for key, node in self.nodes.items() if node.ops}
        for edge in self.edges:
            for end, other in ((edge.source, edge.target), (edge.target, edge.source)):
                if end not in phase and other in phase:
                    phase[end] = phase[other]
        for edge in self.edges:
            edge.between = phase.get(edge.source) != phase.get(edge.target)
        for each in dict.fromkeys(phase.values()):
            _find_spine({key: node for key, node in self.nodes.items() if phase.get(key) == each},
                        [edge for edge in self.edges if not edge.between and phase[edge.source] == each])

    def number_turns(self) -> None:
        """Edges that a gradient passes, numbered in the order in which the engine went."""
        turns = sorted((edge.order, k) for k, edge in enumerate(self.edges) if edge.order is not None)
        for number, (_, k) in enumerate(turns, start=1):
            self.edges[k].order = (number,)


def _tensor_lines(rows: list[TensorRow], kind: str) -> list[tuple[str, str]]:
    """Parameters in one or two lines; many as a count."""
    if not rows:
        return []
    if len(rows) > 4:
        total = sum(math.prod(row.shape) for row in rows)
        return [(kind, f"{total:,} {'parameters' if kind == 'params' else 'numbers in buffers'}")]
    said = [f"{name_text(row.name.rpartition('.')[2], 18)} {shape_text(row.shape)}" for row in rows]
    return [(kind, " · ".join(said[k:k + 2])) for k in range(0, len(said), 2)]


def _find_spine(nodes: dict[str, Node], edges: Iterable[Edge]) -> None:
    """Mark the main path: back from the last result along the largest tensors, where these are equal the long way."""
    into: dict[str, list[Edge]] = defaultdict(list)
    out: dict[str, int] = defaultdict(int)
    for edge in edges:
        if edge.kind in ("data", "none", "hidden") and edge.source != edge.target:
            into[edge.target].append(edge)
            out[edge.source] += 1
    depth: dict[str, int] = {}
    for key in _sorted(nodes, into):
        depth[key] = max((depth.get(e.source, 0) + 1 for e in into[key]), default=0)
    if not depth:
        return
    ends = [key for key in nodes if not out[key]]
    here = max(ends or list(nodes), key=lambda key: depth.get(key, 0))
    seen = set()
    while into[here] and here not in seen:
        seen.add(here)
        best = max(into[here], key=lambda e: (bool(nodes[e.source].ops), e.nbytes, depth.get(e.source, 0)))
        best.spine = True
        here = best.source


def _sorted(nodes: dict[str, Node], into: dict[str, list[Edge]]) -> list[str]:
    """The nodes, each after those it has edges from."""
    missing = {key: len({e.source for e in into[key]}) for key in nodes}
    after: dict[str, set[str]] = defaultdict(set)
    for key, edges in list(into.items()):
        for edge in edges:
            after[edge.source].add(key)
    ready, done = [key for key, n in missing.items() if n == 0], []
    while ready:
        key = ready.pop()
        done.append(key)
        for each in after[key]:
            missing[each] -= 1
            if missing[each] == 0:
                ready.append(each)
    return done
