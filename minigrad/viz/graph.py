"""A captured graph: rows, the file format `minigrad.graph/1`, and every picture of it as a method."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minigrad.errors import ArgumentError, StateError
from minigrad.io.files import replace_file
from minigrad.viz.dot import dot_text
from minigrad.viz.layout import RenderError, lay_out, picture
from minigrad.viz.listing import listing, summary
from minigrad.viz.page import page
from minigrad.viz.rows import Module, Mutation, Operation, Statistics, Storage, TensorRow, Use, plain
from minigrad.viz.scene import View
from minigrad.viz.svg import svg_text
from minigrad.viz.view import make_view

__all__ = ["FORMATS", "Graph", "SCHEMA", "schema"]

SCHEMA = "minigrad.graph/1"
FORMATS = ("svg", "png", "pdf", "dot", "json", "html", "txt")


def schema() -> dict[str, Any]:
    """The JSON schema of the file format."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("graph-1.schema.json").read_text(encoding="utf-8"))
    return found


class Graph:
    """What a program computed: operations, tensors, layers, and the edges between them.

    Made by `record` and `trace`, or read from a file by `Graph.load`. It holds plain values only: no array, no node.

    Attributes
    ----------
    meta : dict
        title, training, dtype, backward_passes; after an error also error.
    modules, storages, tensors, ops, uses, mutations : lists of rows (see `minigrad.viz.rows`)
    """

    def __init__(self, meta: dict[str, Any], modules: list[Module], storages: list[Storage], tensors: list[TensorRow],
                 ops: list[Operation], uses: list[Use], mutations: list[Mutation]) -> None:
        self.meta, self.modules, self.storages, self.tensors = meta, modules, storages, tensors
        self.ops, self.uses, self.mutations = ops, uses, mutations
        self.module = {m.id: m for m in modules}
        self.storage = {s.id: s for s in storages}
        self.tensor = {t.id: t for t in tensors}
        self.op = {o.id: o for o in ops}
        self.uses_by_op: dict[str, list[Use]] = {o.id: [] for o in ops}
        for use in uses:
            self.uses_by_op[use.op].append(use)

    # ---------------------------------------------------------------- questions

    def top_level(self) -> list[Operation]:
        """The operations that ran, without the parts of opened ones, in the order they ran."""
        return [op for op in self.ops if op.parent is None]

    def held(self, ops: Iterable[Operation] | None = None) -> dict[str, int]:
        """Storages that operations hold for backward, each once, with its bytes.

        Parameters
        ----------
        ops : iterable of Operation, optional
            By default all that ran.
        """
        found: dict[str, int] = {}
        for op in self.top_level() if ops is None else ops:
            kept = [t for k in op.kept if (t := op.outputs[k])]
            for t in (*kept, *(use.tensor for use in self.uses_by_op[op.id] if use.saved)):
                storage = self.tensor[t].storage
                if storage is not None:
                    found[storage] = self.storage[storage].nbytes
        return found

    def held_bytes(self, ops: Iterable[Operation] | None = None, parameters: bool = False) -> int:
        """Bytes held for backward, every storage once; `parameters`: also those of parameters and buffers, which the
        model holds anyway.
        """
        anyway = () if parameters else ("param", "buffer")
        return sum(n for s, n in self.held(ops).items() if self.storage[s].kind not in anyway)

    def find(self, text: str) -> list[Operation]:
        """Operations whose id, name or layer path is `text`, else those that contain it."""
        def names(op: Operation) -> tuple[str, ...]:
            path = self.module[op.module].path if op.module else ""
            return op.id, op.op, path, path.rpartition(".")[2]

        exact = [op for op in self.ops if text in names(op)]
        return exact or [op for op in self.ops if any(text.lower() in name.lower() for name in names(op))]

    # ---------------------------------------------------------------- the file format

    def to_dict(self) -> dict[str, Any]:
        """The graph as the file format holds it."""
        return {"schema": SCHEMA, "meta": self.meta, "modules": plain(self.modules), "storages": plain(self.storages),
                "tensors": plain(self.tensors), "ops": plain(self.ops), "uses": plain(self.uses),
                "mutations": plain(self.mutations)}

    @staticmethod
    def from_dict(held: dict[str, Any]) -> Graph:
        """A graph from what `to_dict` gave.

        Raises
        ------
        StateError
            It is not of this format.
        """
        if not isinstance(held, dict) or held.get("schema") != SCHEMA:
            got = held.get("schema") if isinstance(held, dict) else type(held).__name__
            raise StateError("Graph", got=f"schema {got!r}", wanted=SCHEMA)
        try:
            tensors = [TensorRow(**_shaped(row)) for row in held["tensors"]]
            return Graph(dict(held["meta"]), [Module(**{"parent": None, **row}) for row in held["modules"]],
                         [Storage(**row) for row in held["storages"]], tensors,
                         [Operation(**row) for row in held["ops"]],
                         [Use(**(row | {"grad": _statistics(row.get("grad"))})) for row in held["uses"]],
                         [Mutation(**row) for row in held["mutations"]])
        except (KeyError, TypeError) as error:
            raise StateError("Graph", got=f"a file that is damaged: {error}", wanted=SCHEMA) from error

    def to_json(self) -> str:
        """The file's text; the same graph gives the same text but for times."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def save(self, path: str | os.PathLike[str], **view: Any) -> Path:
        """Write a file whose ending says what: svg, png, pdf, dot, json, html or txt; `view` as for `Graph.view`.

        Raises
        ------
        ArgumentError
            Another ending.
        RenderError
            A picture was asked for and nothing here can draw it; the message names the ways to change that.
        """
        target = Path(path)
        kind = target.suffix.lstrip(".").lower()
        if kind not in FORMATS:
            raise ArgumentError("Graph.save", got=f"{target.name!r}", wanted=f"a name ending in .{', .'.join(FORMATS)}")
        if kind in ("png", "pdf"):
            target.write_bytes(self.png(**view) if kind == "png" else self.pdf(**view))
            return target
        text = {"svg": self.svg, "dot": self.dot, "html": self.html, "json": lambda **_: self.to_json(),
                "txt": lambda **_: self.summary() + "\n\n" + self.listing()}[kind]
        replace_file(target, text(**view).encode("utf-8"))
        return target

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Graph:
        """Read a graph that was saved as JSON."""
        try:
            held = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            got = f"{Path(path).name}, which is not JSON ({error})"
            raise StateError("Graph.load", got=got, wanted=SCHEMA) from error
        return Graph.from_dict(held)

    # ---------------------------------------------------------------- pictures

    def view(self, depth: int | None = None, opened: Sequence[str] = (), closed: Sequence[str] = (),
             fold_repeats: bool | None = None, fold_params: bool = True, hide: Sequence[str] = (),
             focus: str | None = None, radius: int = 2, max_nodes: int = 40, phase: str = "all") -> View:
        """Choose what is shown. Nothing here changes the graph.

        Parameters
        ----------
        depth : int, optional
            How deep layers are opened; by default as deep as leaves at most `max_nodes` nodes.
        opened, closed : sequence of str
            Layers, operations or groups to open or to close: keys of the view, paths, names, or "all" operations.
        fold_repeats : bool, optional
            Draw three or more equal neighbours once, with ×N; by default where the picture would be too large.
        fold_params : bool
            Write parameters into their operation instead of drawing them.
        hide : sequence of str
            Operations or layers to leave out; what went through them is joined.
        focus : str, optional
            Show only this operation or layer and what is at most `radius` edges away.
        phase : "all", "forward" or "backward"
            Which operations; a backward pass has some if it was run with ``create_graph=True``.
        """
        return make_view(self, depth, opened, closed, fold_repeats, fold_params, hide, focus, radius, max_nodes, phase)

    def dot(self, rank: str = "TB", **view: Any) -> str:
        """DOT text for Graphviz."""
        return dot_text(self.view(**view), rank)

    def graphviz(self, rank: str = "TB", **view: Any) -> Any:
        """A `graphviz.Source` of the ``graphviz`` package, to go on with.

        Raises
        ------
        RenderError
            The package is not installed.
        """
        try:
            import graphviz
        except ModuleNotFoundError as error:
            raise RenderError("graph", got="no package graphviz", wanted="it, to make a graphviz.Source",
                              hint="pip install 'minigrad-norm[viz]', or use Graph.dot() or Graph.save('g.dot'), which "
                                   "need nothing") from error
        return graphviz.Source(self.dot(rank, **view))

    def svg(self, rank: str = "TB", theme: str = "auto", **view: Any) -> str:
        """An SVG picture, in light and dark (theme "auto"), or "light" or "dark" alone."""
        shown = self.view(**view)
        return svg_text(shown, lay_out(dot_text(shown, rank, words=False)), theme)

    def png(self, rank: str = "TB", theme: str = "light", **view: Any) -> bytes:
        """A PNG picture."""
        return picture(lambda nabla: dot_text(self.view(**view), rank, theme, nabla), "png")

    def pdf(self, rank: str = "TB", theme: str = "light", **view: Any) -> bytes:
        """A PDF picture; needs the program ``dot``."""
        return picture(lambda nabla: dot_text(self.view(**view), rank, theme, nabla), "pdf")

    def html(self, rank: str = "TB", pictures: int = 64, **view: Any) -> str:
        """One page to look around in, which needs nothing else: no network, no server.

        Parameters
        ----------
        pictures : int
            How many states of the page (what is open, what is closed) are laid out beforehand.
        """
        return page(self, rank, pictures, view)

    def summary(self, width: int | None = None) -> str:
        """A table for the terminal: layers, shapes, parameters, buffers, bytes held, times."""
        return summary(self)

    def listing(self) -> str:
        """Operations in order, one a line, with inputs, outputs, and gradients on their edges."""
        return listing(self)

    def __repr__(self) -> str:
        title = self.meta.get("title", "")
        return f"<Graph {title!r}: {len(self.top_level())} operations, {len(self.tensors)} tensors>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": self.summary()}
        with contextlib.suppress(RenderError):
            bundle["image/svg+xml"] = self.svg()
        return bundle


def _statistics(held: dict[str, Any] | None) -> Statistics | None:
    empty = dict.fromkeys(("norm", "mean", "std", "min", "max"))
    return None if held is None else Statistics(**{**empty, **held})


def _shaped(row: dict[str, Any]) -> dict[str, Any]:
    known = {name: _statistics(row.get(name)) for name in ("stats", "grad")}
    return {"shape": [], "dtype": "", "name": ""} | row | known
