"""The HTML page: one file, no network, no server. Layouts of all its states are made beforehand, by Graphviz.

A state is what is open. From the first picture every single thing can be opened or closed; further combinations follow
as far as the number of pictures allows. Where one is missing, the page goes to the nearest that has what was asked for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigrad.run.text import escape, printable
from minigrad.viz.choice import Choice, boxes_of, chosen, matching
from minigrad.viz.details import keepers_of, operation_details, tensor_details
from minigrad.viz.dot import dot_text
from minigrad.viz.items import draw
from minigrad.viz.labels import edge_lines
from minigrad.viz.layout import Geometry, lay_out_all
from minigrad.viz.scene import View
from minigrad.viz.style import KINDS, SVG_STYLE, THEMES
from minigrad.viz.svg import cluster_svg, edge_svg, label_svg, node_label, node_svg
from minigrad.viz.view import trimmed

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["page", "page_of_views"]

_MOST_NODES = 300
_MOST_WORK = 2_000_000  # the squared numbers of edges of all states, which is about what their layouts take
_WORDS = {"matmul": "matrix product, convolution", "norm": "normalization", "reduce": "reduction", "ew": "elementwise",
          "loss": "loss", "param": "parameter", "block": "layers", "side": "side effect"}


class _Pool:
    """Pieces of SVG that several states share, each once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def add(self, markup: str) -> int:
        return self.numbers.setdefault(markup, len(self.numbers))

    def svg(self) -> str:
        return "\n".join(f'<g id="f{number}">{markup}</g>' for markup, number in self.numbers.items())


class _States:
    """What can be open, explored from the first state outwards."""

    def __init__(self, graph: Graph, first: Choice, most: int, wishes: dict[str, Any]) -> None:
        self.graph, self.root, self.most, self.wishes = graph, first.root, most, wishes
        self.views: dict[frozenset[str], View] = {}
        self.work = 0
        self.inner: dict[str, set[str]] = {}
        for box in boxes_of(first.root):
            self.inner[box.group or box.key] = {b.group or b.key for b in boxes_of(box)}
        start = frozenset(first.opened & set(self.inner))
        self.start = start
        self.add(start)
        every = {b.group or b.key for b in matching(first.root, "steps")}
        waiting = [*self.around(start), start | every]
        at = 0
        while at < len(waiting) and len(self.views) < most and self.work < _MOST_WORK:
            state = waiting[at]
            at += 1
            if state not in self.views and self.add(state):
                waiting += self.around(state)

    def add(self, state: frozenset[str]) -> bool:
        """Draw a state, unless it is too large for a picture."""
        wishes = self.wishes
        view = trimmed(draw(self.graph, Choice(self.root, set(state)), wishes["fold_params"]), self.root,
                       wishes["hide"], wishes["focus"], wishes["radius"])
        if not 0 < len(view.nodes) <= _MOST_NODES and self.views:
            return False
        self.views[state] = view
        self.work += len(view.edges) ** 2
        return True

    def toggled(self, state: frozenset[str], key: str) -> frozenset[str]:
        """The state after opening or closing one thing; what is inside closes with it."""
        return state - {key} - self.inner.get(key, set()) if key in state else state | {key}

    def keys(self, state: frozenset[str]) -> list[str]:
        """What can be opened or closed in a state."""
        view = self.views[state]
        groups = {box.key: box.group or box.key for box in boxes_of(self.root)}
        return [groups[n.key] for n in view.nodes if n.openable] + [c.key for c in view.clusters if c.closable]

    def around(self, state: frozenset[str]) -> list[frozenset[str]]:
        return [self.toggled(state, key) for key in dict.fromkeys(self.keys(state))]

    def nearest(self, state: frozenset[str], key: str) -> frozenset[str] | None:
        """The state to go to when `key` is opened or closed in `state`."""
        wanted = self.toggled(state, key)
        fitting = [s for s in self.views if (key in s) is (key in wanted)]
        return wanted if wanted in self.views else min(fitting, key=lambda s: len(s ^ wanted), default=None)


def page(graph: Graph, rank: str, pictures: int, wishes: dict[str, Any]) -> str:
    """See `Graph.html`."""
    known = {"depth": None, "opened": (), "closed": (), "fold_repeats": None, "max_nodes": 40, "phase": "all",
             "fold_params": True, "hide": (), "focus": None, "radius": 2} | wishes
    first = chosen(graph, known["depth"], known["opened"], known["closed"], known["fold_repeats"], known["max_nodes"],
                   known["phase"], known["focus"])
    fewer = max(6, min(pictures, 40_000 // max(1, len(graph.ops))))
    states = _States(graph, first, fewer if pictures > 1 else 1, known)
    groups = {box.key: box.group or box.key for box in boxes_of(first.root)}
    numbers = {state: k for k, state in enumerate(states.views)}
    moves = []
    for state in states.views:
        found = {key: states.nearest(state, key) for key in dict.fromkeys(states.keys(state))}
        moves.append({key: [numbers[to], int(to != states.toggled(state, key))]
                      for key, to in found.items() if to is not None})
    return page_of_views(graph, list(states.views.values()), rank, groups, moves)


def page_of_views(graph: Graph, views: list[View], rank: str = "TB", groups: dict[str, str] | None = None,
                  moves: list[dict[str, list[int]]] | None = None, notes: str = "") -> str:
    """The page for some views, of which the first is shown first.

    Parameters
    ----------
    groups : mapping from key of a node to what is opened by it
    moves : per view: key to (number of the view to go to, whether that opens or closes more than was asked for)
    notes : str
        A text below the picture.
    """
    pool = _Pool()
    nodes: dict[str, dict[str, Any]] = {}
    states: list[dict[str, Any]] = []
    ops: set[str] = set()
    tensors: set[str] = set()
    geometries = lay_out_all([dot_text(view, rank, words=False) for view in views])
    for number, (view, geometry) in enumerate(zip(views, geometries)):
        state = _state(graph, view, geometry, pool, nodes, groups or {})
        state["go"] = moves[number] if moves else {}
        states.append(state)
        ops |= {op for node in view.nodes for op in node.ops[:40]}
        tensors |= {edge.tensor for edge in view.edges} | {n.tensor for n in view.nodes if n.tensor}
    tensors |= {t for op in ops for t in graph.op[op].outputs[:1] if t}
    keepers = keepers_of(graph)
    data = {
        "states": states, "nodes": list(nodes.values()),
        "ops": {op: operation_details(graph, graph.op[op]) for op in sorted(ops)},
        "tensors": {t: tensor_details(graph, graph.tensor[t], keepers.get(t, [])) for t in sorted(tensors)},
    }
    return _assemble(graph, views, pool, data, notes)


def _state(graph: Graph, view: View, geometry: Geometry, pool: _Pool, nodes: dict[str, dict[str, Any]],
           groups: dict[str, str]) -> dict[str, Any]:
    places = []
    for node, (x, y) in zip(view.nodes, geometry.nodes):
        piece = pool.add(node_svg(node))
        entry = {"key": node.key, "f": piece, "cls": f"node {node.kind} {node.status}".strip(),
                 "label": node_label(node), "title": printable(node.title), "path": printable(node.path),
                 "ops": node.ops[:40], "all": len(node.ops)}
        if node.openable:
            entry["open"] = groups.get(node.key, node.key)
        if node.tensor:
            entry["tensor"] = node.tensor
        entry["words"] = _words(graph, node.ops)
        number = nodes.setdefault(f"{node.key}/{piece}", entry | {"i": len(nodes)})["i"]
        places.append([number, round(x, 1), round(y, 1)])
    at = {node.key: k for k, node in enumerate(view.nodes)}
    edges = []
    for edge, (curve, head, label) in zip(view.edges, geometry.edges):
        edges.append({
            "cls": f"edge {edge.kind} {edge.status}".strip(), "d": curve, "h": head, "t": edge.tensor,
            "w": edge_svg(edge, "", "").split('"')[3], "s": at[edge.source], "e": at[edge.target], "kept": edge.saved,
            "order": edge.order[0] if edge.order else 0, "text": ", ".join(text for _, text in edge_lines(edge)),
            **({"l": [pool.add(label_svg(edge)), round(label[0], 1), round(label[1], 1)]} if label else {}),
        })
    clusters = []
    for cluster, (x, y, width, height) in zip(view.clusters, geometry.clusters):
        frame, title = cluster_svg(cluster, width, height)
        clusters.append({"key": cluster.key, "x": round(x, 1), "y": round(y, 1), "f": pool.add(frame),
                         "t": pool.add(title), "label": printable(f"{cluster.title} {cluster.path}")})
    return {"w": geometry.width, "h": geometry.height, "n": places, "e": edges, "c": clusters,
            "notes": [printable(note) for note in view.notes]}


def _words(graph: Graph, ops: list[str]) -> str:
    """Everything that a search in a node looks through: names and layers of what is inside."""
    words: dict[str, None] = {}
    for op in ops:
        row = graph.op[op]
        words[row.op] = None
        module = graph.module[row.module] if row.module else None
        while module is not None:
            words[module.path] = words[module.type] = None
            module = graph.module[module.parent] if module.parent else None
    return printable(" ".join(words)).lower()[:4000]


def _assemble(graph: Graph, views: list[View], pool: _Pool, data: dict[str, Any], notes: str) -> str:
    style = THEMES + SVG_STYLE + _read("page.css")
    script = _read("page.js")
    title = printable(views[0].title or "graph")
    said = "" if notes else f"{len(graph.top_level())} operations"  # a difference has its totals in its notes
    if said and graph.meta.get("training") is not None:
        said += ", training" if graph.meta["training"] else ", evaluation"
    # '<' as an escape: no text in the data can end the script element.
    held = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    kinds = dict.fromkeys(node.kind for view in views for node in view.nodes if node.kind in _WORDS)
    legend = "".join(f'<span class="{kind}"><i></i>{_WORDS[kind]}</span>' for kind in KINDS if kind in kinds)
    listed = "".join(f"<li>{escape(node_label(node))}</li>" for node in views[0].nodes)
    policy = (f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
              "form-action 'none'")
    texts = {"TITLE": escape(title), "SAID": escape(said), "LEGEND": legend, "LISTED": listed,
             "NOTES": "\n".join(map(escape, notes.split("\n"))),
             "PIECES": pool.svg(), "DATA": held}
    # One pass over the template: a name that looks like a mark stays a name.
    body = re.sub("@@([A-Z]+)@@", lambda mark: texts[mark[1]], _read("page.html"))
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n{body}\n<script>{script}</script>\n</body>\n</html>\n")


def _read(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
