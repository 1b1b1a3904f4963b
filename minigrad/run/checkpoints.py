"""The checkpoints of a run: which there are, which are kept, and what to do when one is damaged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigrad.errors import MinigradError, StateError
from minigrad.io.checkpoint import read_checkpoint, write_checkpoint
from minigrad.io.files import explained, remove_tree, sync_directory

__all__ = ["FOLDER", "Checkpoints"]

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8,12})")
_KEPT = 2  # the newest, and one before it in case the newest is damaged


class Checkpoints:
    """A folder of checkpoints, ``step-00000100`` and so on.

    Parameters
    ----------
    folder : pathlib.Path
        Made at the first `save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, step: int) -> Path:
        """The folder of one checkpoint."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """The steps of which there are checkpoints, rising."""
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))

    def save(self, step: int, objects: Mapping[str, Any], facts: Mapping[str, Any], best: int | None) -> Path:
        """Write a checkpoint, and remove those that are no longer needed; see `Run.save`."""
        parts = {name: _state_of(each, name) for name, each in objects.items()}
        parts["run"] = {"step": step, **facts}
        first = not self.folder.exists()
        try:
            path = write_checkpoint(self.path(step), parts)
            if first:  # the folder's own name is to survive a power failure, too
                sync_directory(self.folder.parent)
        except OSError as error:
            there = [f"the checkpoint of step {each} is there" for each in self.steps()[-1:]]
            raise explained(error, "Run.save", [*there, "once there is room, go on with --resume"]) from error
        steps = self.steps()
        for old in steps[:-_KEPT]:
            if old != best:
                remove_tree(self.path(old))
        self.clear()
        return path

    def clear(self) -> None:
        """Remove what a process that was killed had not finished, or not finished removing."""
        for left in [*self.folder.glob(".part-*"), *self.folder.glob(".old-*")]:
            remove_tree(left)

    def load(self, objects: Mapping[str, Any], name: str | None) -> tuple[int, dict[str, Any]] | None:
        """Load a checkpoint, by default the newest, into the objects; returns its step and facts, or None."""
        steps = self.steps()
        if name is None and not steps:
            return None
        source = self.folder / name if name is not None else self.path(steps[-1])
        try:
            parts = read_checkpoint(source)
            facts = parts.pop("run", None)
            if not isinstance(facts, dict) or type(facts.get("step")) is not int or source != self.path(facts["step"]):
                raise StateError(f"checkpoint {source.name}", got="no step, or another one", wanted="its own step")
            lengths = facts.get("lengths")
            if not isinstance(lengths, dict) or not all(type(n) is int and n >= 0 for n in lengths.values()):
                raise StateError(f"checkpoint {source.name}", got="no lengths of files", wanted="a number for each")
            if set(parts) != set(objects):
                raise StateError(f"checkpoint {source.name}", got=f"the parts {sorted(parts)}",
                                 wanted=f"{sorted(objects)}")
            for part, state in parts.items():
                _load(objects[part], state, part, source)
        except StateError as error:
            raise StateError(str(error), hint=self._way_out(source)) from error
        return facts["step"], facts

    def forget_after(self, step: int) -> None:
        """Put checkpoints of later steps aside: the run goes another way from here."""
        for later in self.steps():
            if later > step:
                aside = self.folder / f"aside-{self.path(later).name}"
                remove_tree(aside)
                self.path(later).replace(aside)

    def _way_out(self, damaged: Path) -> str:
        """Name the newest other checkpoint that can be read."""
        for step in reversed(self.steps()):
            path = self.path(step)
            if path == damaged:
                continue
            try:
                read_checkpoint(path)
            except (StateError, FileNotFoundError):
                continue
            return f"Intact is {path}: name it in place of the run to go on from there"
        return "There is no other checkpoint that is intact"


def _state_of(thing: Any, name: str) -> Any:
    """The state of an object, by either of the two protocols."""
    if hasattr(thing, "state_dict"):
        return thing.state_dict()
    if hasattr(thing, "get_state"):
        return thing.get_state()
    raise StateError(f"Run.save: {name}", got=f"a {type(thing).__name__}", wanted="state_dict() or get_state()")


def _load(thing: Any, state: Any, name: str, source: Path) -> None:
    """Give an object its state back; whatever it does not like about it is the checkpoint's fault."""
    try:
        (thing.load_state_dict if hasattr(thing, "load_state_dict") else thing.set_state)(state)
    except MinigradError as error:
        raise StateError(f"checkpoint {source.name}, part {name!r}", got=str(error),
                         wanted="a state that fits") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise StateError(f"checkpoint {source.name}, part {name!r}", got=f"{type(error).__name__}: {error}",
                         wanted="a state that fits") from error
