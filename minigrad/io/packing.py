"""Nested states (dicts and lists of arrays, numbers and texts) as JSON and arrays, and back: data, never code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minigrad.backend import is_array, to_numpy
from minigrad.errors import StateError
from minigrad.op import Traced, value

__all__ = ["pack", "unpack"]

# JSON has no tuples, no keys but texts, no infinities and no arrays. Each is an object with one of these keys, which a
# state may therefore not use itself.
_ARRAY, _TUPLE, _PAIRS, _FLOAT, _INTEGER = "$array", "$tuple", "$pairs", "$float", "$integer"
_MARKS = {_ARRAY, _TUPLE, _PAIRS, _FLOAT, _INTEGER}
_SAFE_INTEGER = 2**63
_DEPTH = 64


def pack(tree: Any, where: str = "state") -> tuple[Any, dict[str, np.ndarray]]:
    """Divide a state into what JSON can hold and arrays.

    Parameters
    ----------
    tree : nested mappings, lists and tuples of arrays, Tensors, numbers, texts, bools and None
    where : str
        What an error calls the state.

    Returns
    -------
    tree : the same, with ``{"$array": name}`` in place of arrays
    arrays : dict of str to ndarray
        By the path that leads to each, joined with dots.

    Raises
    ------
    StateError
        Something else is in the state (a function, for example), or two arrays have one path. The message names the
        place.
    """
    arrays: dict[str, np.ndarray] = {}
    return _packed(tree, (), where, arrays), arrays


def _packed(tree: Any, path: tuple[str, ...], where: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, np.generic):
        tree = tree.item()
    if tree is None or isinstance(tree, (bool, str)):
        return tree
    if isinstance(tree, int):
        # Generators hold numbers of 128 bits, which few readers of JSON keep.
        return int(tree) if abs(tree) < _SAFE_INTEGER else {_INTEGER: str(int(tree))}
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else {_FLOAT: repr(float(tree))}
    if is_array(tree) or isinstance(tree, Traced):
        name = ".".join(path)
        if name in arrays:
            raise StateError(where, got=f"two arrays at {name!r}", wanted="one array for each path")
        arrays[name] = np.array(to_numpy(value(tree)), order="C")
        return {_ARRAY: name}
    if isinstance(tree, Mapping):
        keys = list(tree)
        inner = {key: _packed(tree[key], (*path, str(key)), where, arrays) for key in keys}
        if all(isinstance(key, str) and key not in _MARKS for key in keys):
            return inner
        if all(isinstance(key, (str, int)) for key in keys):
            return {_PAIRS: [[key, held] for key, held in inner.items()]}
    elif isinstance(tree, (list, tuple)):
        items = [_packed(item, (*path, str(i)), where, arrays) for i, item in enumerate(tree)]
        return {_TUPLE: items} if isinstance(tree, tuple) else items
    raise StateError(where, got=f"{type(tree).__name__} at {'.'.join(path) or 'the top'}",
                     wanted="arrays, numbers, texts, bools, None, and dicts, lists and tuples of these",
                     hint="A checkpoint holds data, never code")


def unpack(tree: Any, arrays: Mapping[str, np.ndarray], where: str = "state") -> Any:
    """Undo `pack`.

    Raises
    ------
    StateError
        An array that is named is missing, one that is there is not named, or the tree is not what `pack` makes.
    """
    unused = dict(arrays)
    found = _unpacked(tree, unused, where, 0)
    if unused:
        raise StateError(where, got=f"arrays that nothing names: {sorted(unused)[:8]}", wanted="each array once")
    return found


def _unpacked(tree: Any, arrays: dict[str, np.ndarray], where: str, depth: int) -> Any:
    if depth > _DEPTH:
        raise StateError(where, got=f"more than {_DEPTH} levels of nesting", wanted="fewer")
    if isinstance(tree, list):
        return [_unpacked(item, arrays, where, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1 or not _MARKS & set(tree):
        return {key: _unpacked(held, arrays, where, depth + 1) for key, held in tree.items()}
    ((mark, held),) = tree.items()
    try:
        if mark == _ARRAY:
            return arrays.pop(held)
        if mark == _FLOAT:
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[held]
        if mark == _INTEGER:
            return int(held[:100])  # longer ones were not written here, and cost quadratic time
        if mark == _TUPLE:
            return tuple(_unpacked(item, arrays, where, depth + 1) for item in held)
        return {key: _unpacked(item, arrays, where, depth + 1) for key, item in held}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, StateError):
            raise
        raise StateError(where, got=f"{mark} {held!r:.60}", wanted="what a checkpoint holds") from error
