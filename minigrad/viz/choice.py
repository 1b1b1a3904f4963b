"""Which boxes of the tree are open in a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigrad.errors import ArgumentError
from minigrad.viz.rows import Operation
from minigrad.viz.tree import Box, build_tree

if TYPE_CHECKING:
    from minigrad.viz.graph import Graph

__all__ = ["Choice", "boxes_of", "chosen", "knows", "matching", "operations_of", "parts_of"]


@dataclass
class Choice:
    """A tree and which of its boxes are open."""

    root: Box
    opened: set[str]

    def is_open(self, box: Box) -> bool:
        """Whether the inside of a box is shown."""
        return bool(box.children) and (box.key in self.opened or (box.group is not None and box.group in self.opened))


def boxes_of(root: Box) -> Iterator[Box]:
    """Every box below the root, parents before their children."""
    pending = list(reversed(root.children))
    while pending:
        box = pending.pop()
        yield box
        pending += reversed(box.children)


def count(choice: Choice) -> int:
    """How many nodes a choice shows, inputs and parameters aside."""
    total, pending = 0, list(choice.root.children)
    while pending:
        box = pending.pop()
        if choice.is_open(box):
            pending += box.children
        else:
            total += 1
    return total


def _by_depth(root: Box, depth: int) -> set[str]:
    return {box.key for box in boxes_of(root) if box.op is None and box.times == 1 and box.depth <= depth
            and not box.key.startswith(("chunk:", "round:"))}


def chosen(graph: Graph, depth: int | None, opened: Sequence[str], closed: Sequence[str], fold: bool | None,
           max_nodes: int, phase: str, focus: str | None = None) -> Choice:
    """Which boxes are open: as many layers as fit, then what was asked for, and what is around the focus."""
    if phase not in ("all", "forward", "backward"):
        raise ArgumentError("view", got=f"phase={phase!r}", wanted="'all', 'forward' or 'backward'")
    choice = None
    for folding in (False, True) if fold is None else (fold,):
        root = build_tree(graph, folding, phase, max_nodes)
        deepest = max((box.depth for box in boxes_of(root) if box.op is None), default=0)
        depths = [depth] if depth is not None else range(deepest, -1, -1)
        for d in depths:
            choice = Choice(root, _by_depth(root, d))
            if count(choice) <= max_nodes or depth is not None:
                break
        assert choice is not None
        if count(choice) <= max_nodes and (fold is not None or folding or d == deepest or depth is not None):
            break
    assert choice is not None
    above = {child.key: box for box in (choice.root, *boxes_of(choice.root)) for child in box.children}
    wanted = [box for name in opened for box in matching(choice.root, name)]
    centre = [] if focus is None else matching(choice.root, focus)
    wanted += [above[box.key] for box in centre if above[box.key] not in centre]
    for box in wanted:
        while box.key:
            if box.children:
                choice.opened.add(box.group or box.key)
            box = above[box.key]
    for name in closed:
        choice.opened -= {key for box in matching(choice.root, name) for key in (box.key, box.group)}
    return choice


def knows(graph: Graph, name: str) -> bool:
    """Whether a name means something in a graph."""
    try:
        return bool(matching(build_tree(graph, False, "all", len(graph.ops)), name))
    except ArgumentError:
        return False


def matching(root: Box, name: str) -> list[Box]:
    """The boxes that a name means: key, path, title or operation's name; "all": every operation that opens, "steps":
    only their first level; "bn2": the second normalization where no layer has that name.

    Raises
    ------
    ArgumentError
        There is none; the message lists some.
    """
    every = list(boxes_of(root))
    if name in ("all", "steps"):
        return [box for box in every if box.op is not None and box.children
                and (name == "all" or box.op.parent is None)]
    found = [box for box in every if name in (box.key, box.path, box.group)] or [
        box for box in every if name in (box.title, box.path.rpartition(".")[2], box.op.op if box.op else "")]
    numbered = re.fullmatch(r"(?:bn|norm)(\d+)", name)
    if not found and numbered:  # the k-th normalization, in models whose layers are only numbered
        norms = [box for box in every if box.op is not None and box.op.kind == "norm" and box.op.parent is None]
        found = norms[int(numbered[1]) - 1:int(numbered[1])] if int(numbered[1]) else []
    if not found:
        some = ", ".join(dict.fromkeys(box.path or box.title for box in every if box.children or box.path))
        raise ArgumentError("view", got=repr(name), wanted=f"a layer, an operation or 'all'; there are {some[:300]}")
    return found


def parts_of(choice: Choice) -> Iterator[tuple[Box, str, bool]]:
    """Everything shown, in order: box, key of the cluster around it, whether it is open."""
    pending = [(box, "") for box in reversed(choice.root.children)]
    seen: set[str] = set()
    while pending:
        box, cluster = pending.pop()
        if not choice.is_open(box):
            yield box, cluster, False
            continue
        if box.group is not None and box.group in seen:
            continue
        if box.group is not None:
            seen.add(box.group)
        yield box, cluster, True
        pending += [(child, box.group or box.key) for child in reversed(box.children)]


def operations_of(box: Box) -> list[Operation]:
    """What a closed box stands for."""
    return [box.op] if box.op is not None else list(box.operations())
