"""Fixtures of the kernels' tests: loops serial and parallel at any size, and which loops have run."""

import pytest


@pytest.fixture(params=[False, True], ids=["serial", "parallel"])
def threads(request, monkeypatch):
    """Both versions of every compiled loop, whatever the size; the images of a convolution in three parts."""
    pytest.importorskip("numba")
    from minigrad.kernels.compiled import convolution, loading, normalization
    from minigrad.optim import slots

    least = 0 if request.param else 2**62
    monkeypatch.setattr(loading, "PARALLEL_FROM", least)
    monkeypatch.setattr(convolution, "PARALLEL_FROM", least)
    monkeypatch.setattr(slots, "PARALLEL_FROM", least)
    monkeypatch.setattr(convolution, "get_num_threads", lambda: 3)
    monkeypatch.setattr(normalization, "STRIP", 16 if request.param else 256)
    return request.param


@pytest.fixture
def ran(monkeypatch):
    """The names of the compiled loops that were asked for in this test, and whether each was the parallel one."""
    pytest.importorskip("numba")
    from minigrad.kernels.compiled import loading, normalization
    from minigrad.ops import normalization as operations

    names, made = [], loading.loops

    def loops(file, name, parallel, *more):
        names.append((name, parallel))
        return made(file, name, parallel, *more)

    monkeypatch.setattr(loading, "loops", loops)
    remembering = normalization._plan, operations.checked_batch_norm, operations._layer_norm  # plans with their loops
    for cached in remembering:
        cached.cache_clear()
    yield names
    for cached in remembering:
        cached.cache_clear()
