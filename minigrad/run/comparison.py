"""A report on runs that are over, or not yet: read from their directories, side by side, in one file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import ArgumentError, MinigradError, StateError
from minigrad.run.chart import Chart, Series
from minigrad.run.directory import read_config
from minigrad.run.report import Embed, Picture, flat, write_report
from minigrad.run.rows import read_rows
from minigrad.run.table import Table
from minigrad.run.text import format_percent
from minigrad.viz.embed import embedded
from minigrad.viz.graph import Graph
from minigrad.viz.watch import watch_charts

__all__ = ["report_on", "results_of"]

_KEYS = ("series", "step", "epoch")
_MOST_EMBEDDED = 20 << 20  # bytes of a page


_ACCURACY = ("Accuracy along the way is measured on held-out training images where the setting held_out is above 0, "
             "else on the test images: then its highest value is chosen by the test images, and flatters.")
_DETERMINISM = ("With one seed, on one machine with the same versions and numbers of threads, the CPU gives the same "
                "metrics byte for byte. On a GPU sums may be added in another order, so last digits may differ. Times "
                "are of a machine that may have had other work.")


@dataclass
class _Recorded:
    """What a run directory holds.

    label : what the run is called in the report
    rows, timing : of metrics.jsonl and timing.jsonl
    missing : in words, what could not be read
    """

    directory: Path
    label: str
    config: dict[str, Any]
    environment: dict[str, Any]
    result: dict[str, Any]
    rows: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    missing: list[str] = field(default_factory=list)

    def curves(self) -> list[tuple[str, dict[int, dict[str, Any]]]]:
        """Name and rows by step of every series; a run with one series gives it its own name."""
        merged: dict[str, dict[int, dict[str, Any]]] = {}
        for row in (*self.rows, *self.timing):
            merged.setdefault(row["series"], {}).setdefault(row["step"], {}).update(row)
        names = [self.label] if len(merged) == 1 else [f"{self.label}: {series}" for series in merged]
        return list(zip(names, (dict(sorted(rows.items())) for rows in merged.values())))


def report_on(directories: Sequence[Path], target: Path, title: str = "") -> Path:
    """Write one page about runs: results, settings that differ, curves, and their graphs where they were recorded.

    Parameters
    ----------
    directories : sequence of path
        Run directories, at least one. One that is being written is reported on as far as it has got.
    target : path
        The HTML file; replaced if it exists.
    title : str

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ArgumentError
        No run is given.
    FileNotFoundError, StateError
        A directory is no run, or its metrics cannot be read.
    OSError
        The file cannot be written.
    """
    if not directories:
        raise ArgumentError("report", got="no run", wanted="at least one")
    runs = [_read(path, label) for path, label in zip(directories, _labels(directories))]
    differing, common = _settings(runs)
    charts, pictures, embeds = [*_charts(runs), *_watched(runs)], _drawn(runs), _graphs(runs)
    tables = [_results(runs)]
    if len(runs) > 1:
        tables.append(_beside(differing, runs))
    return write_report(
        target,
        title=title or (runs[0].label if len(runs) == 1 else f"{len(runs)} runs side by side"),
        finding=_finding(runs),
        tables=tables,
        charts=charts,
        pictures=pictures,
        embeds=embeds,
        notes=_notes(runs),
        config=common["config"],
        environment=common["environment"],
    )


def results_of(directories: Sequence[Path]) -> Table:
    """The table of results alone, for a terminal.

    Raises
    ------
    FileNotFoundError, StateError
        As `report_on`.
    """
    return _results([_read(path, label) for path, label in zip(directories, _labels(directories))])


# ------------------------------------------------------------------ reading


def _read(directory: Path, label: str) -> _Recorded:
    config = read_config(directory)
    missing: list[str] = []
    try:
        rows = read_rows(directory / "metrics.jsonl")
    except ValueError as error:
        raise StateError(f"report: {directory}", got=str(error), wanted="the metrics of a run") from error
    return _Recorded(directory, label, config, _json(directory / "environment.json", missing),
                     _json(directory / "result.json", []), rows, _optional_rows(directory / "timing.jsonl", missing),
                     missing)


def _optional_rows(file: Path, missing: list[str]) -> list[dict[str, Any]]:
    try:
        return read_rows(file)
    except FileNotFoundError:
        return []
    except ValueError as error:
        missing.append(f"{file.name} is left out: {error}")
        return []


def _json(file: Path, missing: list[str]) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        missing.append(f"{file.name} is missing or cannot be read")
        return {}
    return found if isinstance(found, dict) else {}


def _labels(directories: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    paths = [path.resolve() for path in directories]
    labels = []
    for i, path in enumerate(paths):
        count = 1
        while count < len(path.parts) and any(
            other.parts[-count:] == path.parts[-count:] for j, other in enumerate(paths) if j != i
        ):
            count += 1
        label = "/".join(path.parts[-count:])
        labels.append(label if label not in labels else f"{label} ({i + 1})")
    return labels


# ------------------------------------------------------------------ tables


def _results(runs: Sequence[_Recorded]) -> Table:
    """One row for each curve: how it ended, and its best."""
    rows = []
    for run in runs:
        for name, by_step in run.curves():
            measured = [(row["accuracy"], -step) for step, row in by_step.items() if "accuracy" in row]
            best = max(measured, default=None)
            last = next(reversed(by_step.values()), {})
            seconds = [row["seconds"] for row in by_step.values() if "seconds" in row]
            rows.append((name, run.result.get("status", "not finished"), last.get("epoch"), last.get("step"),
                         _percent(best and best[0]), None if best is None else -best[1],
                         _percent(last.get("accuracy")), _percent(run.result.get("test_accuracy")), last.get("loss"),
                         f"{seconds[-1]:,.1f} s" if seconds else None))
        if not run.rows:
            rows.append((run.label, run.result.get("status", "not finished"), *[None] * 8))
    return Table(("run", "ended", "epochs", "steps", "best accuracy", "at step", "last", "on test images", "last loss",
                  "training time"), rows)


def _percent(value: Any) -> str | None:
    return format_percent(float(value)) if isinstance(value, (int, float)) else None


def _settings(runs: Sequence[_Recorded]) -> tuple[list[tuple[str, list[str]]], dict[str, dict[str, str]]]:
    """Settings and facts of the environment that differ, and those that all runs share."""
    differing: list[tuple[str, list[str]]] = []
    common: dict[str, dict[str, str]] = {"config": {}, "environment": {}}
    for kind, shared in common.items():
        tables = [dict(flat(getattr(run, kind))) for run in runs]
        for name in dict.fromkeys(name for table in tables for name in table):
            values = [table.get(name, "–") for table in tables]
            if len(set(values)) == 1:
                shared[name] = values[0]
            elif (kind, name) != ("environment", "seed"):  # it stands among the settings
                differing.append((name, values))
    return differing, common


def _beside(differing: Sequence[tuple[str, list[str]]], runs: Sequence[_Recorded]) -> Table:
    caption = "Settings that differ" if differing else "All settings are the same"
    rows = [(run.label, *(values[i] for _, values in differing)) for i, run in enumerate(runs)]
    return Table(("run", *(name for name, _ in differing)), rows, caption=caption, align="l" * (1 + len(differing)))


def _finding(runs: Sequence[_Recorded]) -> str:
    best = [(row["accuracy"], -step, name) for run in runs for name, by_step in run.curves()
            for step, row in by_step.items() if "accuracy" in row]
    diverged = [run.label for run in runs if run.result.get("status") == "diverged"]
    said = [f"{', '.join(diverged)} diverged."] if diverged else []
    if best:
        accuracy, step, name = max(best)
        said.insert(0, f"Highest accuracy along the way: {format_percent(accuracy)}, {name}, at step {-step:,}.")
    return " ".join(said) or "No accuracy was measured."


def _notes(runs: Sequence[_Recorded]) -> list[str]:
    said = [_ACCURACY, _DETERMINISM]
    said += [f"{run.label}: {text}." for run in runs for text in run.missing]
    said += [f"{run.label} diverged. {run.result['message']}" for run in runs if "message" in run.result]
    return said


# ------------------------------------------------------------------ pictures


def _charts(runs: Sequence[_Recorded]) -> list[Chart]:
    """Every measurement against steps, and accuracy against seconds."""
    curves = [curve for run in runs for curve in run.curves()]
    names = dict.fromkeys(key for run in runs for row in run.rows for key in row if key not in _KEYS)
    wanted = [("accuracy", "step"), *((name, "step") for name in names if name != "accuracy"), ("accuracy", "seconds")]
    charts = []
    for y, x in wanted:
        series = [Series(name, *zip(*points)) for name, by_step in curves
                  if (points := [(row[x], row[y]) for row in by_step.values() if x in row and y in row])]
        if series:
            against = "seconds of training" if x == "seconds" else "optimizer steps"
            charts.append(Chart(f"{y.capitalize()} against {against}", against, y, series, percent=y == "accuracy",
                                smooth=5 if y == "loss" and len(curves) < 4 else 0))
    return charts


def _watched(runs: Sequence[_Recorded]) -> list[Chart]:
    """What was watched in the layers of each run."""
    charts = []
    for run in runs:
        try:
            with np.load(run.directory / "watch.npz", allow_pickle=False) as held:
                charts += watch_charts(dict(held), "" if len(runs) == 1 else run.label)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            run.missing.append(f"watch.npz is left out: {type(error).__name__}: {error}")
    return charts


def _drawn(runs: Sequence[_Recorded]) -> list[Picture]:
    """Of one run alone, the graph of its first training step, where there is something to draw with."""
    file = runs[0].directory / "graph_train.json"
    if len(runs) > 1 or not file.is_file():
        return []
    try:
        return [embedded(Graph.load(file), "The graph of one training step",
                         "The page below, and graph.html, show it with everything that can be opened.")]
    except (MinigradError, OSError, ValueError, KeyError, TypeError) as error:
        runs[0].missing.append(f"{file.name} is not drawn: {error}")
        return []


def _graphs(runs: Sequence[_Recorded]) -> list[Embed]:
    """The pages with computation graphs that lie in the run directories."""
    found = []
    for run in runs:
        for file in sorted(run.directory.glob("graph*.html")):
            if file.stat().st_size > _MOST_EMBEDDED:
                run.missing.append(f"{file.name} is left out: it has more than {_MOST_EMBEDDED:,} bytes")
                continue
            found.append(Embed(f"{run.label}: {file.stem.replace('_', ' ')}", file.read_text(encoding="utf-8")))
    return found

