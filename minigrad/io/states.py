"""States (named Tensors, as `state_dict` gives them) in the safetensors format: numbers only, nothing is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from minigrad.backend import to_numpy
from minigrad.errors import StateError
from minigrad.op import value

__all__ = ["load", "save"]


def save(state: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write named Tensors or arrays to a file, replacing it only once all is written.

    Parameters
    ----------
    state : mapping of str to Tensor or array
        Such as ``model.state_dict()``. torch's `safetensors.torch.load_file` reads the file too.
    path : str or path-like
        By convention ending in ``.safetensors``.

    Raises
    ------
    OSError
        The file cannot be written; one that was there before is untouched.
    """
    arrays = {name: np.asarray(to_numpy(value(entry)), order="C") for name, entry in state.items()}
    target = Path(path)
    unfinished = target.with_name(target.name + ".part")
    try:
        save_file(arrays, unfinished)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read what `save` wrote, or any safetensors file, as NumPy arrays: for ``model.load_state_dict``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StateError
        The file is not in the safetensors format, or damaged.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise StateError("load", got=f"{Path(path).name}: {error}", wanted="a safetensors file") from error
