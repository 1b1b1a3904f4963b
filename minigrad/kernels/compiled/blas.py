"""Matrix products inside compiled loops: SciPy's BLAS, called by address, one thread for each caller.

NumPy's own BLAS has threads of its own, which would meet those of the loops. SciPy brings another copy of the library,
and that one is set to a single thread here. Where both share one library, `available` says no.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

__all__ = ["available", "sgemm"]


@functools.cache
def available() -> bool:
    """Whether there is a BLAS for loops; the first call loads it and sets it to one thread."""
    if any(importlib.util.find_spec(name) is None for name in ("numba", "scipy", "threadpoolctl")):
        return False
    import scipy.linalg.cython_blas  # noqa: F401 - loads the library
    import threadpoolctl

    own = [c for c in threadpoolctl.ThreadpoolController().lib_controllers if "scipy.libs" in c.filepath]
    for library in own:
        library.set_num_threads(1)
    return bool(own)


@functools.cache
def sgemm() -> Any:
    """Fortran's SGEMM, all arguments as addresses, for use in compiled functions.

    It is known to the linker by a name, not by its address, which is another in every process: so compiled functions
    that call it can be cached on disk.
    """
    import llvmlite.binding
    from numba import types
    from numba.extending import get_cython_function_address

    llvmlite.binding.add_symbol("minigrad_sgemm", get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))
    return types.ExternalFunction("minigrad_sgemm", types.void(*[types.uintp] * 13))
