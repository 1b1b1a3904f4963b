"""One setting for all threads: those of the linear algebra, of the compiled kernels and of oneDNN.

Each of them would start a thread for every core by itself, and waiting threads of one take time from those of another.
``MINIGRAD_NUM_THREADS`` sets the number for a process, `set_num_threads` from then on. Without either, everything is as
the libraries and their own variables have it.
"""

from __future__ import annotations

import os
import sys

from minigrad.errors import ArgumentError, MinigradError

__all__ = ["apply_threads", "get_num_threads", "set_num_threads"]


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _checked(count: object, where: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ArgumentError(where, got=repr(count), wanted="a whole number of at least 1")
    return count


def _of_process() -> int | None:
    text = os.environ.get("MINIGRAD_NUM_THREADS")
    return None if text is None else _checked(int(text) if text.isdecimal() else text, "MINIGRAD_NUM_THREADS")


_count: int | None = _of_process()


def get_num_threads() -> int:
    """How many threads kernels may use: what was set, else the number of cores that this process may run on."""
    return _count or _cores()


def set_num_threads(count: int) -> None:
    """Let linear algebra, compiled kernels and oneDNN use up to `count` threads each, never at the same time.

    Parameters
    ----------
    count : int
        At least 1. More than the compiled kernels' own limit (``NUMBA_NUM_THREADS``) counts as that limit.

    Raises
    ------
    ArgumentError
        `count` is no whole number of at least 1.
    MinigradError
        threadpoolctl, which reaches the libraries, is not installed.
    """
    global _count  # noqa: PLW0603 - one number for the process, as the libraries have it
    count = _checked(count, "set_num_threads")
    _limit(count)
    _count = count


def apply_threads() -> None:
    """Repeat the setting for libraries that were loaded since; nothing without a setting."""
    if _count is not None:
        _limit(_count)


def _limit(count: int) -> None:
    try:
        import threadpoolctl
    except ImportError:
        raise MinigradError("set_num_threads", got="no threadpoolctl", wanted="it installed",
                            hint="pip install 'minigrad-norm[fast]', or set OPENBLAS_NUM_THREADS and OMP_NUM_THREADS "
                                 "before Python starts") from None
    found = threadpoolctl.ThreadpoolController()
    for library in found.lib_controllers:
        if "scipy.libs" not in library.filepath:  # that one serves kernels, each of whose threads calls it by itself
            library.set_num_threads(count)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
