"""What a result depends on besides its settings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import kernels
from minigrad.kernels.compiled import loading
from minigrad.modes import KERNEL_TIERS, current

# Each changes the order in which sums are added, and so the last digits.
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_CORETYPE",
              "MKL_CBWR", "NPY_DISABLE_CPU_FEATURES", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "MINIGRAD_KERNELS",
              "MINIGRAD_NUM_THREADS")


def describe_environment(seed: int | None = None) -> dict[str, Any]:
    """Describe what a result depends on besides the settings.

    Parameters
    ----------
    seed : int, optional
        The seed of the run, repeated here.

    Returns
    -------
    dict
        Versions of Python, NumPy and minigrad; NumPy's BLAS, with the processor it works for and its threads where
        threadpoolctl is installed; the kernels in use; CuPy and the GPU where they are in use; the platform, the
        processor, the number of cores this process may use, the variables that choose kernels and threads where
        set, and the seed. Neither the machine's name nor any path is in it.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return {
        "minigrad": _own_version(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "numpy": np.__version__,
        "blas": _blas(),
        "kernels": _kernels(),
        **_gpu(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        "seed": seed,
    }


def _own_version() -> str:
    """Give the version of the code that runs, installed or not."""
    running = getattr(sys.modules.get("minigrad"), "__version__", None)
    return _version("minigrad-norm") if running is None else str(running)


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    """Give the processor's model: times mean little without it."""
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        described = ""
    model = re.search(r"^model name\s*:\s*(.+)$", described, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or "unknown"


def _blas() -> str:
    """Give name and version of NumPy's linear algebra; its build folders, also known to NumPy, stay out."""
    built = np.show_config(mode="dicts")
    blas = built.get("Build Dependencies", {}).get("blas", {})
    known = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return known
    # NumPy's own, if another package has brought a second one.
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    found = [pool for pool in found if "numpy" in pool["filepath"]] or found
    return "; ".join([known, *(f"{pool.get('architecture', 'processor unknown')}, threads {pool['num_threads']}"
                               for pool in found[:1])])


def _kernels() -> str:
    """Give the tier of kernels in use, and the version of what compiles them."""
    tier = next(name for name, number in KERNEL_TIERS.items() if number == current().kernels)
    if tier != "all":
        return tier
    numba = _version("numba") if loading.INSTALLED else "not installed"
    onednn = "not installed" if kernels.onednn.problem() else _version("onednn-cpu-gomp")
    return f"all; numba {numba}, scipy {_version('scipy')}, oneDNN {onednn}"


def _gpu() -> dict[str, str]:
    """Give CuPy's version and the GPU, if this process uses them."""
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return {}
    try:
        name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())["name"].decode()
    except cupy.cuda.runtime.CUDARuntimeError:  # CuPy without a GPU
        name = "none"
    return {"cupy": str(cupy.__version__), "gpu": name}
