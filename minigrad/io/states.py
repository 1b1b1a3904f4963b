"""States (named Tensors, as `state_dict` gives them) in the safetensors format: numbers only, nothing is executed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minigrad.backend import to_numpy
from minigrad.errors import StateError
from minigrad.io.files import replace_file
from minigrad.op import value

__all__ = ["as_bytes", "from_bytes", "load", "save"]


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
    StateError
        It is no mapping, a name is no text, or safetensors has no such dtype. Nothing was written.
    OSError
        The file cannot be written; one that was there before is untouched.
    """
    replace_file(path, as_bytes(state))


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read what `save` wrote, or any safetensors file, as NumPy arrays: for ``model.load_state_dict``.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    StateError
        The file is not in the safetensors format, or damaged.
    """
    return from_bytes(Path(path).read_bytes(), Path(path).name)


def as_bytes(state: Mapping[str, Any]) -> bytes:
    """Named Tensors or arrays in the safetensors format. Equal states give equal bytes.

    Raises
    ------
    StateError
        As `save`.
    """
    if not isinstance(state, Mapping):
        raise StateError("save", got=f"a {type(state).__name__}", wanted="a mapping from names to Tensors or arrays",
                         hint="Of a model, save model.state_dict()")
    package = _safetensors("save")
    arrays = {name: np.asarray(to_numpy(value(entry)), order="C") for name, entry in state.items()}
    try:
        return bytes(package.numpy.save(arrays))
    except (package.SafetensorError, TypeError) as error:
        raise StateError("save", got=str(error), wanted="arrays of numbers under names") from error


def from_bytes(content: bytes, name: str) -> dict[str, np.ndarray]:
    """The arrays in the content of a safetensors file; `name` is what an error calls the file.

    Raises
    ------
    StateError
        The content is not in the safetensors format, or damaged.
    """
    package = _safetensors("load")
    try:
        return {key: np.array(array) for key, array in package.numpy.load(content).items()}
    # Besides its own errors, the package lets those of NumPy and of its table of dtypes through.
    except (package.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise StateError("load", got=f"{name}: {type(error).__name__}: {error}", wanted="a safetensors file") from error


def _safetensors(where: str) -> ModuleType:
    """The package, imported when a file is first written or read: all else works without it."""
    try:
        import safetensors.numpy
    except ImportError:
        raise StateError(where, got="an environment without safetensors", wanted="the package, to write and read files",
                         hint="pip install safetensors") from None
    return safetensors
