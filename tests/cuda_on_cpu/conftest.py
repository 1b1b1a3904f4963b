"""CuPy's place taken by arrays in host memory and kernels on the CPU."""

import sys

import pytest
from cuda_on_cpu import arrays, compiling

from minigrad.kernels.cuda import launch


@pytest.fixture
def cupy(monkeypatch):
    """The module that stands for CuPy inside the test: Tensors on "cuda" are its arrays."""
    if compiling.compiler() is None or sys.platform != "linux":
        pytest.skip("CUDA sources run on the CPU by g++ or clang++ on Linux, and there is none here")
    made = arrays.module()
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setitem(sys.modules, "cupy.cuda", made.cuda)
    launch.forget()
    yield made
    launch.forget()
