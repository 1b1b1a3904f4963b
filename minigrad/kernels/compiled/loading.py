"""When compiled loops run, and with how many threads."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minigrad.kernels import registry
from minigrad.kernels.compiled.caching import lock_entries, stamp_together
from minigrad.threads import apply_threads

F = TypeVar("F", bound=Callable[..., Any])


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # an import hook refuses to look for it
        return False


INSTALLED = _found("numba")


def accelerates(*what: Any, **options: Any) -> Callable[[F], F]:
    """`minigrad.kernels.accelerates` where numba is installed; else nothing is overlaid."""
    return registry.accelerates(*what, **options) if INSTALLED else lambda kernel: kernel


#: Elements from which several threads pay, where loops follow each other closely. Below, starting them costs more than
#: it saves.
PARALLEL_FROM = 100_000


#: How long an idle thread of the loops looks for work before it sleeps, in turns (libgomp's own default takes whole
#: milliseconds from the threads of matrix products, and none at all makes every loop wait for the system).
SPIN = "3000"


@functools.cache
def loops(file: str, name: str, parallel: bool, *more: Any) -> Any:
    """What the function `name` of a file of loops makes, serial or parallel; compiled once, and cached on disk."""
    _numba()
    return getattr(importlib.import_module(f"minigrad.kernels.compiled.{file}"), name)(parallel, *more)


_starting = threading.Lock()
_started = False


def _numba() -> None:
    """Import numba once, with its threads as they suit the loops; what the environment says has precedence."""
    global _started  # noqa: PLW0603 - of the process, as numba is
    with _starting:  # two threads that come at the same time would each wrap what is wrapped here
        if not _started:
            _start()
            _started = True


def _start() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    importlib.import_module("numba")
    caching = importlib.import_module("numba.core.caching")
    lock_entries(caching.IndexDataCacheFile)
    stamp_together(caching._SourceFileBackedLocatorMixin, Path(__file__).parent)
    apply_threads()
