"""Run directories, progress and reports: what surrounds a training loop. Deals in numbers and text only."""

from minigrad.run.chart import Chart, Marker, Reference, Series
from minigrad.run.directory import Run, describe_environment, read_rows
from minigrad.run.progress import Progress
from minigrad.run.report import Picture, render_report, write_report
from minigrad.run.svg import chart_svg
from minigrad.run.table import Table

__all__ = [
    "Chart",
    "Marker",
    "Picture",
    "Progress",
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
