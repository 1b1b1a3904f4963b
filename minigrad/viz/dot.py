"""DOT text: a picture's view in Graphviz's language. Node sizes are fixed, so that every renderer lays out the same."""

from __future__ import annotations

import math
from collections import defaultdict

from minigrad.errors import ArgumentError
from minigrad.run.text import escape
from minigrad.viz.labels import cluster_lines, edge_lines, edge_size, node_lines, node_size, text_width
from minigrad.viz.scene import Cluster, Edge, Node, View
from minigrad.viz.style import DARK, LIGHT
from minigrad.viz.words import name_text

__all__ = ["dot_text", "line_width"]

_SHAPES = {"box": "box", "side": "box", "ellipse": "ellipse", "cylinder": "cylinder", "loss": "box", "error": "octagon",
           "note": "note"}


def line_width(nbytes: int) -> float:
    """The width of an edge: 1 for a few numbers, 3 for a MiB and more."""
    return round(1 + 2 * min(1.0, max(0.0, math.log2(max(nbytes, 1) / 512) / 11)), 2)


def dot_text(view: View, rank: str = "TB", theme: str = "light", nabla: str = "∇", words: bool = True) -> str:
    """Write a view as DOT.

    Parameters
    ----------
    rank : "TB" or "LR"
        Downwards or to the right.
    theme : "light" or "dark"
    nabla : str
        The sign before a gradient's norm.
    words : bool
        Without them it is for a layout alone: everything keeps its size, empty.
    """
    if rank not in ("TB", "LR"):
        raise ArgumentError("dot", got=f"rank={rank!r}", wanted="'TB' or 'LR'")
    if theme not in ("light", "dark"):
        raise ArgumentError("dot", got=f"theme={theme!r}", wanted="'light' or 'dark'")
    colours = DARK if theme == "dark" else LIGHT
    names = {node.key: f"n{k}" for k, node in enumerate(view.nodes)}
    spine = {end for edge in view.edges if edge.spine for end in (edge.source, edge.target)}
    lines = [
        "digraph minigrad {",
        (f"  graph [rankdir={rank} newrank=true nodesep=0.35 ranksep=0.36 outputorder=edgesfirst splines=spline "
         f'bgcolor="{colours["page"]}" fontname="Helvetica" pad=0.15]'),
        '  node [fontname="Helvetica" fontsize=11 fixedsize=true penwidth=1.5]',
        f'  edge [fontname="Helvetica" fontsize=11 arrowsize=0.7 color="{colours["edge"]}"]',
    ]
    inside: dict[str, list[Node]] = defaultdict(list)
    for node in view.nodes:
        inside[node.cluster].append(node)
    children: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in view.clusters:
        children[cluster.parent].append(cluster)
    number = {cluster.key: k for k, cluster in enumerate(view.clusters)}

    def contents(key: str, pad: str) -> None:
        for node in inside[key]:
            lines.append(pad + _node(node, names[node.key], colours, node.key in spine, words))
        for cluster in children[key]:
            lines.append(f"{pad}subgraph cluster_{number[cluster.key]} {{")
            lines.append(pad + "  " + _frame(cluster, colours, words))
            contents(cluster.key, pad + "  ")
            lines.append(pad + "}")

    contents("", "  ")
    lines += ["  " + _edge(edge, k, names, colours, nabla, words) for k, edge in enumerate(view.edges)]
    return "\n".join([*lines, "}", ""])


def _font(text: str, size: float, colour: str, bold: bool = False) -> str:
    words = escape(text)
    return f'<FONT POINT-SIZE="{size:g}" COLOR="{colour}">{"<B>" + words + "</B>" if bold else words}</FONT>'


def _node(node: Node, name: str, colours: dict[str, str], on_spine: bool, words: bool) -> str:
    tint = {"params": colours["green"], "soft": colours["soft"], "warn": colours["warn"],
            "added-mark": colours["added"], "removed-mark": colours["removed"], "changed-mark": colours["changed"]}
    if not words:
        return _box(node, name, colours, on_spine, '""')
    (_, title), *rows = node_lines(node)
    head = _font(title, 13, colours["text"], True)
    if node.path:
        head += "&#160;&#160;" + _font(name_text(node.path, 26), 11, colours["soft"])
    label = "<BR/>".join([head, *(_font(text, 11, tint.get(kind, colours["text"])) for kind, text in rows)])
    return _box(node, name, colours, on_spine, f"<{label}>")


def _box(node: Node, name: str, colours: dict[str, str], on_spine: bool, label: str) -> str:
    width, height = node_size(node)
    style = {"box": "rounded,filled", "side": "dashed,filled"}.get(node.shape, "filled")
    line = colours.get(node.status) or colours[f"{node.kind}-line"]
    more = " group=spine" if on_spine else ""
    more += " peripheries=2" if node.openable and node.shape == "box" else ""
    return (f'{name} [shape={_SHAPES[node.shape]} style="{style}" width={width / 72:.3f} height={height / 72:.3f} '
            f'fillcolor="{colours[f"{node.kind}-fill"]}" color="{line}"{more} label={label}]')


def _frame(cluster: Cluster, colours: dict[str, str], words: bool) -> str:
    title, behind = cluster_lines(cluster)
    label = _font(title, 12, colours["text"], True)
    label += "&#160;&#160;" + _font(behind, 11, colours["soft"]) if behind else ""
    label = label if words else ""
    width = text_width(title, 12) * 1.1 + text_width(behind, 11) + 18
    return (f'graph [labeljust=l style=rounded penwidth=1.2 margin=12 color="{colours[f"{cluster.kind}-line"]}" '
            f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" FIXEDSIZE="TRUE" '
            f'WIDTH="{width:.0f}" HEIGHT="18"><TR><TD>{label}</TD></TR></TABLE>>]')


def _edge(edge: Edge, number: int, names: dict[str, str], colours: dict[str, str], nabla: str,
          words: bool) -> str:
    weight = 0 if edge.between else 40 if edge.spine else 2
    said = [f'id="e{number}"', f"penwidth={line_width(edge.nbytes)}", f"weight={weight}"]
    lines = edge_lines(edge, nabla)
    if lines:
        width, height = edge_size(lines)
        said_so = [_font(text, 11, colours["grad" if kind == "grad" else "soft"]) for kind, text in lines if words]
        rows = "".join(f'<TR><TD ALIGN="LEFT">&#160;&#160;{each}</TD></TR>' for each in said_so or [""])
        said.append(f'label=<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" FIXEDSIZE="TRUE" '
                    f'WIDTH="{width:.0f}" HEIGHT="{height:.0f}">{rows}</TABLE>>')
    if edge.kind in ("update", "hidden"):
        said.append(f'style=dashed color="{colours["faint"]}"')
    elif edge.status:
        said.append(f'color="{colours[edge.status]}"' + (" style=dashed" if edge.status == "removed" else ""))
    return f"{names[edge.source]} -> {names[edge.target]} [{' '.join(said)}]"
