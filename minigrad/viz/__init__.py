"""Look at computation graphs: capture, views, and pictures of what a program computed."""

from minigrad.viz.capture import Recorder, record
from minigrad.viz.diff import Difference, diff
from minigrad.viz.graph import Graph, schema
from minigrad.viz.layout import RenderError
from minigrad.viz.scene import View
from minigrad.viz.tape import trace

__all__ = ["Difference", "Graph", "Recorder", "RenderError", "View", "diff", "record", "schema", "trace"]
