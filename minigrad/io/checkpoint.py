"""Checkpoints: a folder of safetensors files and one JSON file, which appears complete or not at all.

    step-00000300/
        model.safetensors        arrays of one part, under their own names: torch loads it as it is
        optimizer.safetensors
        state.json               everything that is no array, and size and SHA-256 of every file

A folder is written under a hidden name, brought to the disk, and then renamed: whatever kills the process or the
machine, a folder with its final name is complete. Reading executes nothing, and what was damaged or forged is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.errors import StateError
from minigrad.io.files import explained, publish, remove_tree, write_synced
from minigrad.io.packing import pack, unpack
from minigrad.io.states import as_bytes, from_bytes

__all__ = ["read_checkpoint", "write_checkpoint"]

FORMAT = "minigrad.checkpoint/1"
STATE = "state.json"
_PART = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_JSON = 64 << 20  # bytes: states are kilobytes, so what is larger was not written here


def write_checkpoint(folder: str | os.PathLike[str], parts: Mapping[str, Any]) -> Path:
    """Write a checkpoint; the folder appears only once all of it is on the disk.

    Parameters
    ----------
    folder : str or path-like
        Replaced if it exists.
    parts : mapping of str to state
        Named by small letters, digits and ``_``: ``{"model": model.state_dict(), "optimizer": …}``. A state is made of
        nested dicts, lists and tuples of arrays, Tensors, numbers, texts, bools and None.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    StateError
        A part holds something else, a function for example; nothing was written.
    OSError
        The folder cannot be written, because the disk is full for example. An earlier one of this name is untouched.
    """
    target = Path(folder)
    trees, files = {}, {}
    for name, state in parts.items():
        if not _PART.fullmatch(name):
            raise StateError("write_checkpoint", got=f"a part called {name!r}", wanted="small letters, digits and _")
        trees[name], arrays = pack(state, f"write_checkpoint, part {name!r}")
        if arrays:
            files[name] = as_bytes(arrays)
    content = {
        "format": FORMAT,
        "files": {name: {"bytes": len(data), "sha256": _digest(data)} for name, data in files.items()},
        "parts": trees,
    }
    text = _json({"content": content, "sha256": _digest(_json(content))})
    unfinished = target.with_name(f".part-{target.name}-{os.getpid()}")
    try:
        remove_tree(unfinished)
        unfinished.mkdir(parents=True)
        for name, data in files.items():
            write_synced(unfinished / f"{name}.safetensors", data)
        write_synced(unfinished / STATE, text)
        publish(unfinished, target)
    except OSError as error:
        remove_tree(unfinished)
        raise explained(error, f"cannot write checkpoint {str(target)!r}",
                        ["nothing of it is left"]) from error
    return target


def read_checkpoint(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint that `write_checkpoint` has written.

    Returns
    -------
    dict
        The parts, with arrays as NumPy arrays.

    Raises
    ------
    FileNotFoundError
        There is no checkpoint.
    StateError
        The checkpoint is truncated, changed, or was never one. The message names the file; nothing was executed, and
        no file outside the folder was read.
    """
    source = Path(folder)
    content = _content(source)
    parts = content.get("parts")
    if not isinstance(parts, dict) or not all(_PART.fullmatch(name) for name in parts):
        raise _refused(source, "names of parts that no checkpoint has", "small letters, digits and _")
    arrays = {name: _arrays(source, name, entry) for name, entry in content["files"].items()}
    left = sorted(set(arrays) - set(parts))
    if left:
        raise _refused(source, f"files of no part: {left}", "one part for each file")
    return {name: unpack(tree, arrays.get(name, {}), f"checkpoint {source.name}, part {name!r}")
            for name, tree in parts.items()}


def _content(source: Path) -> dict[str, Any]:
    """What state.json says, once its own checksum is found right."""
    if not source.is_dir():
        raise FileNotFoundError(f"read_checkpoint: there is no checkpoint folder {str(source)!r}")
    file = source / STATE
    try:
        size = file.stat().st_size
        if size > _MOST_JSON:
            raise _refused(source, f"{STATE} of {size:,} bytes", f"at most {_MOST_JSON:,}")
        said = json.loads(file.read_bytes())
        content = said["content"]
        if said["sha256"] != _digest(_json(content)):
            raise _refused(source, f"{STATE} that is not as it was written (SHA-256)", "an unchanged file")
        if content["format"] != FORMAT:
            raise _refused(source, f"format {content['format']!r:.40}", FORMAT)
        if not isinstance(content["files"], dict):
            raise _refused(source, "no table of files", "one")
    except StateError:
        raise
    # A damaged text can be wrong in any of these ways; nesting beyond the parser's stack is one of them.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _refused(source, f"{STATE}: {type(error).__name__}: {error}", "a complete file") from error
    return dict(content)


def _arrays(source: Path, name: str, entry: Any) -> dict[str, np.ndarray]:
    """The arrays of one part, once its file is found to be what was written."""
    # The name becomes part of a path, so it is checked before anything is opened.
    if not _PART.fullmatch(name) or not isinstance(entry, dict) or not isinstance(entry.get("bytes"), int):
        raise _refused(source, f"the file entry {name!r:.60}", "a part's name with bytes and sha256")
    file = source / f"{name}.safetensors"
    try:
        size = file.stat().st_size
        if size != entry["bytes"]:
            raise _refused(source, f"{file.name} of {size:,} bytes", f"{entry['bytes']:,} bytes")
        data = file.read_bytes()
    except OSError as error:
        raise _refused(source, f"{file.name}: {error.strerror}", "a file that can be read") from error
    if _digest(data) != entry.get("sha256"):
        raise _refused(source, f"{file.name} that is not as it was written (SHA-256)", "an unchanged file")
    return from_bytes(data, f"{source.name}/{file.name}")


def _refused(source: Path, got: str, wanted: str) -> StateError:
    return StateError(f"checkpoint {source.name}", got=got, wanted=wanted)


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
