"""SVG: a view and its geometry drawn in our own hand, so that text, colours and roles are the same everywhere."""

from __future__ import annotations

from minigrad.run.text import escape
from minigrad.viz.dot import line_width
from minigrad.viz.labels import LINE, TITLE, cluster_lines, edge_lines, edge_size, node_lines, node_size, text_width
from minigrad.viz.layout import Geometry
from minigrad.viz.scene import Cluster, Edge, Node, View
from minigrad.viz.style import svg_style
from minigrad.viz.words import name_text

__all__ = ["cluster_svg", "edge_svg", "label_svg", "node_label", "node_svg", "svg_text"]

_PAD = 10.0
_SPACE = "http" + "://www.w3.org/2000/svg"  # a name that every SVG file has to carry, not a place


def node_svg(node: Node) -> str:
    """A node around the origin."""
    width, height = node_size(node)
    lines = node_lines(node)
    text_height = TITLE + LINE * (len(lines) - 1)
    y = -text_height / 2 + 14 + (4 if node.shape == "cylinder" else 0)
    parts = [_outline(node, width, height)]
    head = escape(lines[0][1])
    if node.path:
        head += f'<tspan class="path" dx="6">{escape(name_text(node.path, 26))}</tspan>'
    parts.append(f'<text class="title" y="{y:.1f}">{head}</text>')
    for k, (kind, text) in enumerate(lines[1:], start=1):
        parts.append(f'<text class="{kind}" y="{y + LINE * k + 1:.1f}">{escape(text)}</text>')
    return "".join(parts)


def _outline(node: Node, width: float, height: float) -> str:
    w, h = width / 2, height / 2
    if node.shape == "ellipse":
        return f'<ellipse class="body" rx="{w:.1f}" ry="{h:.1f}"/>'
    if node.shape == "cylinder":
        return (f'<path class="body" d="M{-w:.1f},{5 - h:.1f}a{w:.1f},5 0 0 1 {width:.1f},0v{height - 10:.1f}'
                f'a{w:.1f},5 0 0 1 {-width:.1f},0z"/>'
                f'<path class="rim" d="M{-w:.1f},{5 - h:.1f}a{w:.1f},5 0 0 0 {width:.1f},0"/>')
    if node.shape == "note":
        return (f'<path class="body" d="M{-w:.1f},{-h:.1f}h{width - 9:.1f}l9,9v{height - 9:.1f}h{-width:.1f}z"/>'
                f'<path class="rim" d="M{w - 9:.1f},{-h:.1f}v9h9"/>')
    if node.shape == "error":
        c = 9.0
        return (f'<path class="body" d="M{c - w:.1f},{-h:.1f}H{w - c:.1f}L{w:.1f},{c - h:.1f}V{h - c:.1f}'
                f'L{w - c:.1f},{h:.1f}H{c - w:.1f}L{-w:.1f},{h - c:.1f}V{c - h:.1f}Z"/>')
    radius = 0 if node.shape == "loss" else 9
    body = (f'<rect class="body" x="{-w:.1f}" y="{-h:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}"/>')
    if node.times > 1:  # more cards behind the first
        body = "".join(f'<rect class="body" x="{d - w:.1f}" y="{-d - h:.1f}" width="{width:.1f}" height="{height:.1f}" '
                       f'rx="{radius}"/>' for d in (6, 3)) + body
    if node.openable:
        body += (f'<rect class="rim" x="{-4 - w:.1f}" y="{-4 - h:.1f}" width="{width + 8:.1f}" '
                 f'height="{height + 8:.1f}" rx="{radius + 4 if radius else 0}"/>')
    return body


def node_label(node: Node) -> str:
    """A node in words, for readers who do not see it."""
    said = [node.title + (f" {node.path}" if node.path else ""), *(text for _, text in node_lines(node)[1:])]
    return ", ".join(said) + (", can be opened" if node.openable else "")


def edge_svg(edge: Edge, curve: str, head: str) -> str:
    """An edge's line and arrow head."""
    return (f'<path class="line" stroke-width="{line_width(edge.nbytes)}" d="{curve}"/>'
            + (f'<path class="head" d="{head}"/>' if head else ""))


def label_svg(edge: Edge) -> str:
    """An edge's label, around the origin."""
    lines = edge_lines(edge)
    if not lines:
        return ""
    width, height = edge_size(lines)
    x, y = 8 - width / 2, 12 - height / 2
    return "".join(f'<text class="{kind}" x="{x:.1f}" y="{14 * k + y:.1f}">{escape(text)}</text>'
                   for k, (kind, text) in enumerate(lines))


def cluster_svg(cluster: Cluster, width: float, height: float) -> tuple[str, str]:
    """A frame with its corner at the origin, and its title."""
    title, behind = cluster_lines(cluster)
    more = f'<tspan class="path" dx="6">{escape(behind)}</tspan>' if behind else ""
    frame = f'<rect class="frame {cluster.kind}" width="{width:.1f}" height="{height:.1f}" rx="12"/>'
    return frame, f'<text class="title" x="12" y="19">{escape(title)}{more}</text>'


def svg_text(view: View, geometry: Geometry, theme: str = "auto") -> str:
    """A picture that stands alone.

    Parameters
    ----------
    theme : "auto", "light" or "dark"
    """
    notes = [note[:160] for note in view.notes]
    width = max(geometry.width, *(text_width(note, 12) for note in notes), 60) if notes else geometry.width
    left, top = _PAD + (width - geometry.width) / 2, _PAD + 20 * len(notes)
    full_width, full_height = width + 2 * _PAD, geometry.height + top + _PAD
    names = "; ".join(node_label(n) for n in view.nodes[:60])
    described = f"{len(view.nodes)} nodes, {len(view.edges)} edges. {names}"
    middle = f"{full_width / 2:.1f}"
    parts = [
        (f'<svg xmlns="{_SPACE}" class="graph" viewBox="0 0 {full_width:.1f} {full_height:.1f}" '
         f'width="{full_width:.0f}" height="{full_height:.0f}" role="img">'),
        f"<title>{escape(view.title)}</title><desc>{escape(described)}</desc><style>{svg_style(theme)}</style>",
        *(f'<text class="warn" x="{middle}" y="{18 + 20 * k}">{escape(note)}</text>' for k, note in enumerate(notes)),
        f'<g transform="translate({left:.1f} {top:.1f})">',
    ]
    frames = [(x, y, *cluster_svg(cluster, w, h)) for cluster, (x, y, w, h) in zip(view.clusters, geometry.clusters)]
    parts += [_at("", x, y, frame) for x, y, frame, _ in frames]
    for edge, (curve, head, _) in zip(view.edges, geometry.edges):
        parts.append(f'<g class="edge {edge.kind} {edge.status}">{edge_svg(edge, curve, head)}</g>')
    for node, (x, y) in zip(view.nodes, geometry.nodes):
        parts.append(_at(f"node {node.kind} {node.status}", x, y, node_svg(node)))
    parts += [_at("cluster", x, y, title) for x, y, _, title in frames]
    for edge, (_, _, place) in zip(view.edges, geometry.edges):
        if place is not None:
            parts.append(_at(f"label {edge.status}", *place, label_svg(edge)))
    return "\n".join([*parts, "</g></svg>", ""])


def _at(kind: str, x: float, y: float, inside: str) -> str:
    """A group moved to a place."""
    return f'<g class="{kind}" transform="translate({x:.1f} {y:.1f})">{inside}</g>'
