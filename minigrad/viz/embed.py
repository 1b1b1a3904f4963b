"""A graph inside a report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from minigrad.run.report import Picture
from minigrad.viz.style import SVG_STYLE, THEMES

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["embedded"]


def embedded(graph: Graph, title: str = "", description: str = "", **view: Any) -> Picture:
    """A picture for `minigrad.run.write_report`; `view` as for `Graph.view`."""
    text = re.sub(r"<style>.*?</style>", "", graph.svg(**view), count=1, flags=re.DOTALL)
    return Picture(title or str(graph.meta.get("title", "")), text, THEMES + SVG_STYLE, description)
