"""When compiled loops run, and with how many threads."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # an import hook refuses to look for it
        return False


INSTALLED = _found("numba")

#: Elements from which several threads pay: between products of matrices, whose threads have to hand over, starting them
#: costs more than it saves below.
PARALLEL_FROM = 300_000


@functools.cache
def loops(file: str, name: str, parallel: bool) -> Any:
    """What the function `name` of a file of loops makes, serial or parallel; compiled once, and cached on disk."""
    return getattr(importlib.import_module(f"minigrad.kernels.compiled.{file}"), name)(parallel)
