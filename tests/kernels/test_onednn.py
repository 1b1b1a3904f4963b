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
    original, both = convolution._run, convolution._run_both
    monkeypatch.setattr(convolution, "_run",
                        lambda way, *rest, **more: directions.append(way) or original(way, *rest, **more))
    monkeypatch.setattr(convolution, "_run_both", lambda *rest: directions.append("both gradients") or both(*rest))
    return directions


@pytest.mark.parametrize("needs", [(True, True, True), (False, True, True), (True, True, False), (False, True, False),
                                   (True, False, True), (True, False, False), (False, False, True)], ids=str)
@pytest.mark.parametrize("case", [CASES[1], CASES[3], CASES[5]], ids=str)
def test_only_what_is_needed_is_given(case, needs):
    n, c, o, height, width, kernel, stride, padding, dilation, groups = case
    rng = np.random.default_rng(0)
    shapes = (n, c, height, width), (o, c // groups, *kernel), (o,)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in shapes]
    found = []
    for tier, dtype in (("all", np.float32), ("text", np.float64)):
        with kernels.tier(tier):
            leaves = [Tensor(a.astype(dtype), need) for a, need in zip(arrays, needs)]
            y = F.conv2d(*leaves, stride, padding, dilation, groups)
            upstream = Tensor(np.random.default_rng(1).standard_normal(y.shape).astype(dtype))
            found.append([g.numpy() for g in grad(y, [t for t in leaves if t.requires_grad], upstream)])
    for a, b in zip(*found):
        assert np.abs(a - b).max() <= 5e-6 * np.abs(b).max()


def test_without_a_bias(asked):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape) for shape in ((2, 16, 8, 8), (5, 16, 3, 3)))
    found = []
    for dtype in (np.float32, np.float64):
        leaves = [Tensor(a.astype(dtype), True) for a in (x, w)]
        y = F.conv2d(*leaves, padding=1)
        found.append([y.numpy(), *(g.numpy() for g in grad((y * y).sum(), leaves))])
    for a, b in zip(*found):
        assert np.abs(a - b).max() <= 5e-6 * np.abs(b).max()
    assert asked == ["forward", "both gradients"]


def test_primitives_that_are_dropped_in_between(monkeypatch):
    """The two for the gradients share what one of them lays out: they are kept, and dropped, together."""
    import functools

    from minigrad.kernels.onednn import convolution

    monkeypatch.setattr(convolution, "_primitive", functools.lru_cache(1)(convolution._made))
    pairs = functools.lru_cache(1)(convolution._both_gradients.__wrapped__)
    monkeypatch.setattr(convolution, "_both_gradients", pairs)
    with kernels.disabled():
        wanted = [run(case, np.float64) for case in CASES[:3]]
    for _ in range(2):
        for case, expected in zip(CASES[:3], wanted):
            for a, b in zip(run(case, np.float32), expected):
                assert np.abs(a - b).max() <= 5e-6 * np.abs(b).max()


def test_it_serves_what_suits_it_and_nothing_else(asked):
    run(CASES[3], np.float32)
    assert asked == ["forward", "both gradients"]
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
