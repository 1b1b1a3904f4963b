"""Graphviz, whichever there is: the program `dot`, or `graphviz-pure`, which pip installs. Every call of it is here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigrad.errors import MinigradError

__all__ = ["Geometry", "RenderError", "engine", "lay_out", "lay_out_all", "picture", "run_graphviz"]

_SECONDS = 60
_FIXES = ("Run pip install 'minigrad-norm[viz]' (brings graphviz-pure), or install the program dot (Debian and Ubuntu: "
          "apt install graphviz; macOS: brew install graphviz), or write .dot, .json or .txt, which need neither")


class RenderError(MinigradError, RuntimeError):
    """A picture cannot be drawn here."""


@dataclass
class Geometry:
    """Where everything is, in points, y downwards: centres of nodes, corners and sizes of frames, and per edge its
    path, its arrow head and the left upper corner of its label.
    """

    width: float
    height: float
    nodes: list[tuple[float, float]]
    clusters: list[tuple[float, float, float, float]]
    edges: list[tuple[str, str, tuple[float, float] | None]]


def engine(kind: str = "json") -> list[str]:
    """The command that draws: ``dot`` where it is installed, else graphviz-pure, which cannot write PDF.

    Raises
    ------
    RenderError
        There is neither; the message names the ways to get one.
    """
    dot = shutil.which("dot")
    if dot:
        return [dot]
    beside = Path(sys.executable).parent / ("graphviz-pure.exe" if os.name == "nt" else "graphviz-pure")
    pure = str(beside) if beside.is_file() else shutil.which("graphviz-pure")
    if pure and kind != "pdf":
        return [pure, "-Kdot"]
    if pure:
        raise RenderError("graph", got="no program dot, and graphviz-pure writes no PDF", wanted="Graphviz's dot",
                          hint="Install it (Debian and Ubuntu: apt install graphviz; macOS: brew install graphviz), or "
                               "write .svg, .png or .html")
    raise RenderError("graph", got="neither the program dot nor the package graphviz-pure", wanted="one of them",
                      hint=_FIXES)


def run_graphviz(text: str, kind: str, *options: str) -> bytes:
    """What Graphviz makes of DOT text.

    Raises
    ------
    RenderError
        There is no Graphviz, it fails, or it needs longer than a minute.
    """
    command = [*engine(kind), f"-T{kind}", *options]
    done = _attempt(command, text)
    if _failed(done) and "newrank=true" in text:  # which fails for a few pictures with frames inside frames
        done = _attempt(command, text.replace("newrank=true", "newrank=false", 1))
    if _failed(done):
        said = done.stderr.decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if "rror" in line] or said.strip().splitlines()
        raise RenderError("graph", got=f"{Path(command[0]).name} failed: {lines[0] if lines else 'no output'}")
    return done.stdout


def _failed(done: subprocess.CompletedProcess[bytes]) -> bool:
    return bool(done.returncode) or not done.stdout


def _attempt(command: list[str], text: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, input=text.encode(), capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RenderError("graph", got=f"a layout that takes longer than {_SECONDS} s", wanted="a smaller picture",
                          hint="Open less: a lower depth, or focus on a layer") from error
    except OSError as error:
        raise RenderError("graph", got=f"{Path(command[0]).name}, which cannot be run ({error})",
                          hint=_FIXES) from error


def picture(text: Callable[[str], str], kind: str) -> bytes:
    """A PNG or PDF; `text` gives the DOT text for a sign that stands for the gradient. graphviz-pure's fonts lack ∇."""
    pure = "graphviz-pure" in Path(engine(kind)[0]).name
    return run_graphviz(text("grad" if pure else "∇"), kind, *(["-Gdpi=144"] if kind == "png" else []))


def lay_out_all(texts: Sequence[str]) -> list[Geometry]:
    """Positions for several texts, as many at a time as there are cores."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(lay_out, texts))


def lay_out(text: str) -> Geometry:
    """Positions for DOT text of `minigrad.viz.dot`."""
    held = json.loads(run_graphviz(text, "json0"))
    _, _, width, height = (float(v) for v in held["bb"].split(","))
    nodes: dict[int, tuple[float, float]] = {}
    clusters: dict[int, tuple[float, float, float, float]] = {}
    for thing in held.get("objects", []):
        name = thing["name"]
        if name.startswith("cluster_"):
            left, low, right, high = (float(v) for v in thing["bb"].split(","))
            clusters[int(name[8:])] = (left, height - high, right - left, high - low)
        else:
            x, y = (float(v) for v in thing["pos"].split(","))
            nodes[int(name[1:])] = (x, height - y)
    edges = {int(each["id"][1:]): _path(each, height) for each in held.get("edges", [])}
    return Geometry(width, height, [nodes[k] for k in sorted(nodes)], [clusters[k] for k in sorted(clusters)],
                    [edges[k] for k in sorted(edges)])


def _path(edge: dict[str, Any], height: float) -> tuple[str, str, tuple[float, float] | None]:
    """An edge's curve and arrow head as SVG paths, and where its label is centred."""
    end = None
    points = []
    for part in edge["pos"].split(";")[0].split():
        if part.startswith(("e,", "s,")):
            if part[0] == "e":
                x, y = part[2:].split(",")
                end = (float(x), height - float(y))
        else:
            x, y = part.split(",")
            points.append((float(x), height - float(y)))
    curve = f"M{_p(points[0])}C" + " ".join(_p(p) for p in points[1:])
    head = ""
    if end is not None:
        (x0, y0), (x1, y1) = points[-1], end
        dx, dy = x1 - x0, y1 - y0
        long = (dx * dx + dy * dy) ** 0.5 or 1.0
        nx, ny = -dy / long * 3.4, dx / long * 3.4
        head = f"M{_p((x0 + nx, y0 + ny))}L{_p(end)}L{_p((x0 - nx, y0 - ny))}Z"
    label = None
    if "lp" in edge:
        x, y = edge["lp"].split(",")
        label = (float(x), height - float(y))
    return curve, head, label


def _p(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
