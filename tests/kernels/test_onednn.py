"""Convolution by oneDNN against the text in float64, and what it leaves to others."""

import gc
import resource

import numpy as np
import pytest

import minigrad.functional as F
from minigrad import Tensor, grad, kernels
from minigrad.kernels.onednn import library

pytestmark = pytest.mark.skipif(bool(library.problem()), reason=library.problem())

#: Batch, channels in and out, height, width, kernel, stride, padding, dilation, groups.
CASES = [
    (2, 3, 4, 7, 8, (3, 3), 1, 1, 1, 1), (5, 4, 6, 9, 5, (3, 2), 2, 1, 1, 2), (3, 8, 4, 6, 6, (3, 3), 1, (1, 2), 2, 2),
    (2, 16, 5, 8, 8, (5, 5), 1, 2, 1, 1), (2, 32, 8, 7, 7, (1, 1), 2, 0, 1, 1),
    (32, 64, 64, 14, 14, (3, 3), 1, 1, 1, 1),
    (4, 8, 8, 16, 16, (3, 3), (2, 1), "valid", 1, 2), (3, 4, 6, 7, 9, (2, 4), 1, "same", 1, 1),
]


def run(case, dtype):
    n, c, o, height, width, kernel, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    shapes = (n, c, height, width), (o, c // groups, *kernel), (o,)
    leaves = [Tensor(rng.standard_normal(s).astype(np.float32).astype(dtype), True) for s in shapes]
    y = F.conv2d(*leaves, stride, padding, dilation, groups)
    upstream = Tensor(rng.standard_normal(y.shape).astype(np.float32).astype(dtype))
    return [y.numpy(), *(g.numpy() for g in grad(y, leaves, upstream))]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case):
    with kernels.disabled():
        wanted = run(case, np.float64)
    for a, b in zip(run(case, np.float32), wanted):
        assert np.abs(a - b).max() <= 5e-6 * np.abs(b).max()


@pytest.fixture
def asked(monkeypatch):
    """The directions in which oneDNN is asked to run."""
    from minigrad.kernels.onednn import convolution

    directions = []
    original = convolution._run
    monkeypatch.setattr(convolution, "_run", lambda way, *rest: directions.append(way) or original(way, *rest))
    return directions


def test_it_serves_what_suits_it_and_nothing_else(asked):
    run(CASES[3], np.float32)
    assert asked == ["forward", "backward_data", "backward_weights"]
    asked.clear()
    run(CASES[3], np.float64)
    run((2, 1, 4, 6, 6, (3, 3), 1, 1, 1, 1), np.float32)  # one channel: the compiled loops are faster
    run((2, 4, 4, 6, 6, (3, 3), 1, 1, 1, 4), np.float32)
    with kernels.tier("compiled"):
        run(CASES[3], np.float32)
    F.conv1d(np.ones((1, 16, 9), np.float32), np.ones((4, 16, 3), np.float32))
    F.conv2d(np.ones((1, 16, 9, 9), np.float32)[:, :, ::2], np.ones((4, 16, 3, 3), np.float32))
    assert asked == []


def test_second_derivatives(asked):
    rng = np.random.default_rng(0)
    x, w = (Tensor(rng.standard_normal(shape), True) for shape in ((2, 4, 6, 6), (3, 4, 3, 3)))

    def second(dtype):
        a, b = (Tensor(t.data.astype(dtype), True) for t in (x, w))
        g = grad((F.conv2d(a, b, padding=1) ** 2).sum(), (a, b), create_graph=True)
        return [t.numpy() for t in grad(sum((t * t).sum() for t in g), (a, b))]

    for a, b in zip(second(np.float32), second(np.float64)):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    assert "backward_data" in asked


def test_memory_stays_bounded():
    w = np.ones((16, 16, 3, 3), np.float32)

    def many(sizes):
        for size in sizes:
            F.conv2d(np.ones((2, 16, size, 9), np.float32), w, padding=1)
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    first = many(range(8, 208))  # more than are kept
    assert max(many(range(8, 208)) for _ in range(3)) - first < 20 << 20


def test_a_missing_package_is_named(monkeypatch):
    library.problem.cache_clear()
    monkeypatch.setattr(library, "installed", lambda: False)
    assert library.problem() == "onednn-cpu-gomp is not installed (pip install 'minigrad-norm[onednn]')"
    library.problem.cache_clear()
