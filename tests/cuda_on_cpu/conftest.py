"""CuPy's place taken by arrays in host memory and kernels on the CPU."""

import sys

import pytest
from cuda_on_cpu import arrays, compiling

from minigrad.kernels import cuda
from minigrad.kernels.cuda import launch


@pytest.fixture(scope="session")
def combinations():
    """Every (source, macros) that the modules of kernels say they may ask for."""
    return {(file, *sorted(macros.items())) for file, macros in cuda.combinations(True)}


@pytest.fixture
def cupy(monkeypatch, combinations):
    """The module that stands for CuPy inside the test: Tensors on "cuda" are its arrays.

    Whatever is compiled has to be among the combinations that are known, and so are compiled for the device too.
    """
    if compiling.compiler() is None or sys.platform != "linux":
        pytest.skip("CUDA sources run on the CPU by g++ or clang++ on Linux, and there is none here")
    made, options = arrays.module(), launch.options

    def known(file, macros):
        assert (file, *sorted(macros.items())) in combinations, f"{file} with {macros} is in no combinations()"
        return options(file, macros)

    monkeypatch.setattr(launch, "options", known)
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setitem(sys.modules, "cupy.cuda", made.cuda)
    launch.forget()
    yield made
    launch.forget()
