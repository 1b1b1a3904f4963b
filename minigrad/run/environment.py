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

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def describe_environment(seed: int | None = None) -> dict[str, Any]:
    """Describe what a result depends on besides the settings.

    Parameters
    ----------
    seed : int, optional
        The seed of the run, repeated here.

    Returns
    -------
    dict
        Versions of Python, NumPy, its BLAS and minigrad, the platform, the processor, the number of cores
        this process may use, the variables that limit threads where set, and the seed. Neither the machine's
        name nor any path is in it.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return {
        "minigrad": _own_version(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "numpy": np.__version__,
        "blas": _blas(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "seed": seed,
    }


def _own_version() -> str:
    """Give the version of the code that runs, installed or not."""
    running = getattr(sys.modules.get("minigrad"), "__version__", None)
    if running is not None:
        return str(running)
    try:
        return importlib.metadata.version("minigrad-norm")
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
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
