"""Memory statistics and deterministic mode, on a stand-in for CuPy."""

import os
import subprocess
import sys

import cupy_on_numpy
import numpy as np
import pytest

import minigrad
from minigrad import Tensor, cuda, kernels, ops
from minigrad.errors import ArgumentError, DeviceError
from minigrad.op import Op


@pytest.fixture
def gpu(monkeypatch):
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cuda.deterministic()
    yield
    cuda.deterministic(False)


def test_statistics_follow_arrays(gpu):
    before = cuda.memory_statistics()
    x = Tensor(np.zeros(1000, np.float32), device="cuda")
    during = cuda.memory_statistics()
    assert during.used - before.used == x.data.nbytes == 4000
    del x
    after = cuda.memory_statistics()
    assert (after.used, after.held) == (before.used, during.held)
    cuda.empty_cache()
    assert cuda.memory_statistics().held == before.held
    assert during.total > during.free > 0


def test_the_peak_of_a_block(gpu):
    with cuda.peak_memory() as peak:
        x = Tensor(np.zeros(1000, np.float32), device="cuda")
        y = x * 2.0
        del x, y
        with cuda.peak_memory() as inner:
            z = Tensor(np.zeros(10, np.float32), device="cuda")
    assert (peak.bytes, inner.bytes) == (8000, 40)
    assert z.size == 10


def test_limits(gpu):
    cuda.set_memory_limit(1 << 20)
    assert cuda.memory_statistics().limit == 1 << 20
    cuda.set_memory_limit(fraction=0.5)
    assert cuda.memory_statistics().limit == 40 << 30
    for options in ({}, {"size": 1, "fraction": 0.5}, {"size": -1}, {"fraction": 1.5}):
        with pytest.raises(ArgumentError, match="set_memory_limit"):
            cuda.set_memory_limit(**options)


def test_deterministic_mode_refuses_atomics_on_the_gpu_alone(gpu, deterministic):
    assert cuda.is_deterministic()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"

    def gradient(device, call):
        x = Tensor(np.arange(4, dtype=np.float32), True, device=device)
        call(x).sum().backward()
        return x.grad.tolist()

    for call in (lambda x: ops.take(x, np.array([1, 1]), 0) if x.device.type == "cpu" else
                 ops.take(x, Tensor(np.array([1, 1]), device="cuda"), 0),
                 lambda x: x[np.array([1, 1])] if x.device.type == "cpu" else
                 x[Tensor(np.array([1, 1]), device="cuda")]):
        assert gradient("cpu", call) == [0.0, 2.0, 0.0, 0.0]
        with pytest.raises(DeviceError, match="a sum by atomics"):
            gradient("cuda", call)
        cuda.deterministic(False)
        assert gradient("cuda", call) == [0.0, 2.0, 0.0, 0.0]
        cuda.deterministic()


def test_kernels_with_atomics_decline(deterministic):
    class Own(Op):
        def forward(self, x):
            return x + 1

    @kernels.accelerates(Own, "forward", atomics=True)
    def by_atomics(op, x):
        return x + 100

    x = np.zeros(2)
    assert Own().run_forward(x).tolist() == [1.0, 1.0]
    cuda.deterministic(False)
    assert Own().run_forward(x).tolist() == [100.0, 100.0]


def test_the_environment_switches_it_on():
    text = "import minigrad.cuda, os; print(minigrad.cuda.is_deterministic(), os.environ['CUBLAS_WORKSPACE_CONFIG'])"
    environment = {**os.environ, "MINIGRAD_DETERMINISTIC": "1", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", ":16:8"]


@pytest.mark.parametrize("call", [cuda.memory_statistics, cuda.empty_cache, cuda.synchronize,
                                  lambda: cuda.set_memory_limit(1)])
def test_without_a_gpu_it_says_what_is_missing(call):
    if minigrad.backend.cuda_problem():
        with pytest.raises(DeviceError, match=r"wanted a machine where CUDA works\. CuPy is"):
            call()
