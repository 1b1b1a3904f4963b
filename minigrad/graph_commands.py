"""The commands `minigrad graph`, `minigrad graph diff` and `minigrad summary`."""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad
import minigrad.functional as F
from minigrad import Tensor, layers, viz
from minigrad.errors import ArgumentError, MinigradError
from minigrad.examples import train_cnn, train_mlp
from minigrad.examples._setup import NORMS
from minigrad.viz.graph import FORMATS

__all__ = ["capture", "diff", "graph", "summary"]

_NETWORKS: dict[str, Callable[[str, int], layers.Module]] = {"mlp": train_mlp.build, "cnn": train_cnn.build}
_WHAT = ("mlp, cnn, SCRIPT.py:function, a run directory, or a dump.json; mlp and cnn take options, as in "
         "mlp:norm=none,mode=eval or mlp:fold=yes")
_CHOICES = {"norm": tuple(NORMS), "mode": ("train", "eval"), "fold": ("no", "yes")}


def _parser(name: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"minigrad {name}", description=about)
    parser.add_argument("--norm", choices=NORMS, help="the normalization of mlp and cnn (default: batch)")
    parser.add_argument("--mode", choices=_CHOICES["mode"],
                        help="of mlp and cnn, or which of a run's two graphs (default: train)")
    parser.add_argument("--input", type=_shape, metavar="N,C,H,W",
                        help="the input's shape for mlp and cnn (default: 64,1,28,28)")
    parser.add_argument("--seed", type=int, help="of mlp's and cnn's weights and images (default: 0)")
    return parser


def _picture_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--expand", action="append", default=[], metavar="NAME",
                        help="open a layer or operation, such as bn1, or all, or steps; may be given several times")
    parser.add_argument("--collapse", action="append", default=[], metavar="NAME", help="close a layer")
    parser.add_argument("--depth", type=int, help="how deep layers are opened (default: as deep as 40 nodes allow)")
    parser.add_argument("--hide", action="append", default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--rank", choices=("TB", "LR"), default="TB", help="downwards or to the right")
    parser.add_argument("-o", "--output", help=f"a file ending in .{', .'.join(FORMATS)} (default: text on the screen)")


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 64,1,28,28")
    return shape


def graph(arguments: Sequence[str]) -> int:
    """``minigrad graph WHAT [options]``; 1 where the program that was recorded failed, whose graph is drawn so far."""
    if arguments and arguments[0] == "diff":
        return diff(arguments[1:])
    parser = _parser("graph", "Draw the computation graph of one training step.")
    parser.add_argument("what", help=_WHAT)
    parser.add_argument("--backward", action="store_true",
                        help="the graph of the backward pass itself (create_graph=True)")
    parser.add_argument("--focus", metavar="NAME", help="only this and what is near it")
    _picture_options(parser)
    given = parser.parse_args(arguments)
    return _guarded(lambda: _draw(given))


def _draw(given: argparse.Namespace) -> int:
    found = capture(given.what, given, given.backward, everything="all" in given.expand)
    wishes = {"opened": given.expand, "closed": given.collapse, "depth": given.depth, "focus": given.focus,
              "hide": given.hide, "phase": "backward" if given.backward else "forward"}
    if given.output is None:
        print(found.summary())
        print()
        print(found.listing())
    else:
        kind = Path(given.output).suffix.lower()
        if kind in (".json", ".txt"):
            found.save(given.output)
        else:
            found.save(given.output, rank=given.rank, **wishes)
        print(f"wrote {given.output}")
    error = found.meta.get("error")
    if error:
        print(f"the program stopped with {error['type']}: {error['message']}; the graph ends there", file=sys.stderr)
    return 1 if error else 0


def diff(arguments: Sequence[str]) -> int:
    """``minigrad graph diff A B [options]``."""
    parser = _parser("graph diff", "Compare two graphs, in one picture and in words.")
    parser.add_argument("a", help=_WHAT)
    parser.add_argument("b")
    _picture_options(parser)
    given = parser.parse_args(arguments)

    def run() -> int:
        wishes = {"opened": given.expand, "depth": given.depth, "closed": given.collapse, "hide": given.hide}
        found = viz.diff(capture(given.a, given), capture(given.b, given), **wishes)
        print(found.text())
        if given.output is not None:
            kind = Path(given.output).suffix.lower()
            found.save(given.output, **({} if kind == ".txt" else {"rank": given.rank}))
            print(f"wrote {given.output}")
        return 0

    return _guarded(run)


def summary(arguments: Sequence[str]) -> int:
    """``minigrad summary WHAT [options]``."""
    parser = _parser("summary", "A table of layers: shapes, parameters, buffers, bytes held for backward, times.")
    parser.add_argument("what", help=_WHAT)
    given = parser.parse_args(arguments)

    def run() -> int:
        print(capture(given.what, given).summary())
        return 0

    return _guarded(run)


def _guarded(run: Callable[[], int]) -> int:
    """Say in one line what is wrong, where the user can put it right."""
    try:
        return run()
    except (MinigradError, OSError) as error:
        print(f"minigrad: {error}", file=sys.stderr)
        return 2 if isinstance(error, ArgumentError) else 1


# ------------------------------------------------------------------ what to draw


def capture(what: str, given: argparse.Namespace, backward: bool = False, everything: bool = False) -> viz.Graph:
    """The graph that a word on the command line means.

    Raises
    ------
    ArgumentError
        It means nothing.
    """
    name, _, options = what.partition(":")
    if name in _NETWORKS:
        return _network(name, options, given, backward, everything)
    path = Path(what)
    if path.is_dir():
        _refuse(what, given, "norm", "input", "seed")
        kept = path / f"graph_{given.mode or 'train'}.json"
        if not kept.is_file():
            raise ArgumentError("graph", got=f"{what}, a directory without {kept.name}",
                                wanted="a run that was started with --graph")
        return _loaded(kept, backward)
    if path.suffix == ".json" and path.is_file():
        _refuse(what, given, "norm", "mode", "input", "seed")
        return _loaded(path, backward)
    file, _, function = what.rpartition(":")
    if file.endswith(".py") and Path(file).is_file() and function:
        _refuse(what, given, "norm", "mode", "input", "seed")
        return _script(Path(file), function, backward, everything)
    raise ArgumentError("graph", got=repr(what), wanted=_WHAT)


def _refuse(what: str, given: argparse.Namespace, *options: str) -> None:
    """Refuse options that change nothing about what is given: they are for the networks that are made here."""
    useless = [f"--{option}" for option in options if getattr(given, option) is not None]
    if useless:
        raise ArgumentError("graph", got=f"{', '.join(useless)} for {what}", wanted="such options for mlp and cnn only")


def _loaded(path: Path, backward: bool) -> viz.Graph:
    found = viz.Graph.load(path)
    if backward and not any(op.phase for op in found.ops):
        raise ArgumentError("graph", got=f"--backward for {path}, a step whose backward pass was not recorded",
                            wanted="one recorded with create_graph=True, such as mlp or cnn here")
    return found


def _network(name: str, options: str, given: argparse.Namespace, backward: bool, everything: bool) -> viz.Graph:
    chosen = {"norm": given.norm or "batch", "mode": given.mode or "train", "fold": "no"}
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if value not in _CHOICES.get(key, ()):
            wanted = " or ".join(f"{key}=({'|'.join(values)})" for key, values in _CHOICES.items())
            raise ArgumentError("graph", got=f"{option!r} of {name}", wanted=wanted)
        chosen[key] = value
    seed = given.seed or 0
    minigrad.manual_seed(seed)
    model = _NETWORKS[name](chosen["norm"], seed).train(chosen["mode"] == "train")
    title = f"{name}, norm {chosen['norm']}, {'training' if chosen['mode'] == 'train' else 'evaluation'}"
    if chosen["fold"] == "yes":
        model, title = layers.fold(model.eval()), f"{name}, norm {chosen['norm']}, folded"
    shape = given.input or (64, 1, 28, 28)
    draw = np.random.default_rng(seed)
    images = Tensor(draw.standard_normal(shape).astype(np.float32), name="images")
    labels = draw.integers(0, 10, shape[0])
    with contextlib.suppress(MinigradError):  # once before, on a copy: what is measured is no longer the first call
        F.cross_entropy(copy.deepcopy(model)(images), labels).backward()
    return _recorded(lambda: F.cross_entropy(model(images), labels), title, backward, everything, model)


def _recorded(step: Callable[[], Any], title: str, backward: bool, everything: bool,
              model: layers.Module | None = None) -> viz.Graph:
    """Record a step: what it returns is a loss, or a model and its loss."""
    recorder = viz.record(model, expand="all" if everything else True, title=title)
    try:
        with recorder:
            made = step()
            if isinstance(made, tuple):
                model, made = made
                recorder.adopt(model)
            if isinstance(made, Tensor) and made.requires_grad:
                made.backward(np.ones(made.shape, made.dtype), create_graph=backward)
    except Exception:  # whatever stops the program, its graph so far is what was asked for
        if "error" not in recorder.graph.meta:
            raise
    return recorder.graph


def _script(path: Path, function: str, backward: bool, everything: bool) -> viz.Graph:
    """Run one function of a file; the rest of the file runs as on import."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ArgumentError("graph", got=str(path), wanted="a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    step = getattr(module, function, None)
    if not callable(step):
        raise ArgumentError("graph", got=f"{path.name}:{function}",
                            wanted="a function that returns a loss, or (model, loss)")
    return _recorded(step, f"{path.name}:{function}", backward, everything)
