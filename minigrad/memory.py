"""Large results without page faults: how the C library's allocator is set when minigrad is imported.

glibc hands large blocks straight back to the system when they are freed and asks for new ones each time, and the first
touch of every page of a new block costs a fault: for arrays of many megabytes that takes longer than computing them.
With higher thresholds freed blocks stay in the process and are used again. This measures better than a pool of our
own, which NumPy's own results would never come from. `release_memory` gives back what is free.

``MINIGRAD_MALLOC=system`` leaves the allocator as it is; where there is no glibc, it is left as it is too.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_freed_memory", "release_memory"]

#: Numbers of glibc's malloc.h, and what they are set to: blocks below 1 GiB come from the heap; the heap's end is given
#: back from 2 GiB of free memory on; the heap grows in steps of 64 MiB.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_SETTINGS = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1, _M_TOP_PAD: 64 << 20}


def _glibc() -> ctypes.CDLL | None:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError):  # Windows, macOS; musl
        version = ""
    return ctypes.CDLL(None) if version.startswith("glibc") else None


def keep_freed_memory() -> bool:
    """Set the thresholds; called when minigrad is imported. Returns whether it was done.

    Variables that set them for the process (``MALLOC_MMAP_THRESHOLD_`` and the like) have precedence.
    """
    if os.environ.get("MINIGRAD_MALLOC", "") == "system" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = _glibc()
    return library is not None and all(library.mallopt(what, value) for what, value in _SETTINGS.items())


def release_memory() -> bool:
    """Give memory that is free but kept back to the system; returns whether any was. Without glibc nothing is kept.

    Examples
    --------
    >>> import minigrad
    >>> x = minigrad.zeros(1_000_000)
    >>> del x
    >>> released = minigrad.release_memory()
    """
    library = _glibc()
    return library is not None and bool(library.malloc_trim(0))
