"""The device of the GPU's tests: a GPU, where there is one, and a stand-in everywhere, so that no test lies idle."""

import time

import pytest
import standin

from minigrad import kernels
from minigrad.backend import cuda_problem

PROBLEM = cuda_problem()
REAL = [pytest.mark.gpu, pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)]


#: Tests in a row that one process takes: neighbours ask for the same kernels, which each process has to load.
RUN = 8


def pytest_addoption(parser):
    """For `benchmarks/gpu_check.py`, which has this folder tested by several processes, for a bounded time."""
    group = parser.getgroup("gpu")
    group.addoption("--part", metavar="K/N", help="run the K-th of N parts of the tests")
    group.addoption("--stop-after", type=float, metavar="SECONDS", help="begin no test after this time")


@pytest.hookimpl(trylast=True)  # after the marks have selected
def pytest_collection_modifyitems(config, items):
    part = config.getoption("--part", None)
    if part:
        which, count = map(int, part.split("/"))
        others = [item for i, item in enumerate(items) if i // RUN % count != which - 1]
        items[:] = [item for i, item in enumerate(items) if i // RUN % count == which - 1]
        config.hook.pytest_deselected(items=others)


def pytest_sessionstart(session):
    session.config.gpu_deadline = time.monotonic() + (session.config.getoption("--stop-after", None) or float("inf"))


def pytest_runtest_teardown(item, nextitem):
    if nextitem is not None and time.monotonic() > getattr(item.config, "gpu_deadline", float("inf")):
        item.session.shouldstop = "no time was left"


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=REAL)])
def real(request):
    """Whether "cuda" is a GPU inside the test."""
    if request.param == "GPU":
        yield True
        return
    if standin.strict is None:
        pytest.skip("array-api-strict is not installed")
    with standin.playing():
        yield False


@pytest.fixture(params=["stand-in", pytest.param("GPU", marks=REAL), pytest.param("GPU-texts", marks=REAL)])
def real_or_texts(request):
    """As `real`, and on a GPU once more with the kernels off."""
    if request.param == "stand-in":
        if standin.strict is None:
            pytest.skip("array-api-strict is not installed")
        with standin.playing():
            yield False
    elif request.param == "GPU-texts":
        with kernels.disabled():
            yield True
    else:
        yield True
