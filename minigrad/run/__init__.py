"""Run directories, progress, checkpoints and reports: what surrounds a training loop."""

from minigrad.run.chart import Chart, Marker, Reference, Series
from minigrad.run.directory import Run
from minigrad.run.environment import describe_environment
from minigrad.run.progress import Progress
from minigrad.run.record import Record
from minigrad.run.report import Embed, Picture, render_report, write_report
from minigrad.run.rows import read_rows
from minigrad.run.svg import chart_svg
from minigrad.run.table import Table

__all__ = [
    "Chart",
    "Embed",
    "Marker",
    "Picture",
    "Progress",
    "Record",
    "Reference",
    "Run",
    "Series",
    "Table",
    "chart_svg",
    "describe_environment",
    "read_rows",
    "render_report",
    "write_report",
]
