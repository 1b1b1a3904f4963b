"""Compiled GroupNorm, InstanceNorm and RMSNorm, and running averages, against their texts in float64."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives, runs_as_text

from minigrad import kernels, ops
from minigrad.kernels.compiled import loading
from minigrad.op import apply
from minigrad.ops.averages import RunningAverages

pytest.importorskip("numba")


def group_norm(groups):
    return lambda x, w=None, b=None: ops.group_norm(x, groups, w, b)


def instance_norm(x, w=None, b=None):
    return ops.instance_norm(x, w, b)[0]


def rms_norm(shape):
    return lambda x, w=None: ops.rms_norm(x, shape, w, 1e-5)  # its own ε would depend on the dtype


#: A function, the shape of x, that of γ and β, the loops' name
CASES = {
    "group": (group_norm(2), (6, 8, 5, 4), 8, "groups"),
    "group, odd sizes": (group_norm(3), (5, 6, 3, 7), 6, "groups"),
    "group, one": (group_norm(1), (4, 5, 9), 5, "groups"),
    "group, each channel": (group_norm(4), (3, 4, 6, 6), 4, "groups"),
    "group, no places": (group_norm(4), (70, 12), 12, "groups"),
    "group, one image": (group_norm(2), (1, 6, 5, 5), 6, "groups"),
    "group, one set": (group_norm(1), (1, 6, 5, 5), 6, "groups"),
    "instance": (instance_norm, (6, 3, 5, 7), 3, "groups"),
    "instance, sequences": (instance_norm, (9, 4, 33), 4, "groups"),
    "instance, volumes": (instance_norm, (2, 3, 4, 3, 5), 3, "groups"),
    "instance, one set": (instance_norm, (1, 1, 8, 8), 1, "groups"),
    "rms": (rms_norm(64), (10, 64), 64, "rows"),
    "rms, two axes": (rms_norm((4, 6)), (5, 4, 6), (4, 6), "rows"),
    "rms, sequences": (rms_norm(7), (3, 11, 7), 7, "rows"),
    "rms, many rows": (rms_norm(16), (700, 16), 16, "rows"),
    "rms, one row": (rms_norm(300), (1, 300), 300, "rows"),
    "rms, rows of two": (rms_norm(2), (9, 2), 2, "rows"),
}


def draw(shape, size, mean=1.0):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + mean, rng.standard_normal(size), rng.standard_normal(size)]


def drawn(case, mean=1.0):
    """x, γ and β; RMSNorm has no β."""
    _, shape, size, _ = CASES[case]
    return draw(shape, size, mean)[: 2 if case.startswith("rms") else 3]


@pytest.mark.parametrize("parameters", [3, 2, 1], ids=["all", "weight alone", "plain"])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, parameters, threads, ran):
    function, _, _, name = CASES[case]
    compare(function, drawn(case)[:parameters], 3e-6)
    assert {n for n, _ in ran} == {name}
    assert {parallel for _, parallel in ran} == {threads and "one set" not in case and "one row" not in case}


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
def test_second_order(case, threads):
    compare(CASES[case][0], drawn(case), 1e-5, order=2)


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
@pytest.mark.parametrize("scale", [1e30, 1e-15])
def test_huge_and_tiny_values(case, scale, threads):
    x, *parameters = drawn(case)
    compare(CASES[case][0], [x * scale, *parameters], 1e-5)


@pytest.mark.parametrize("case", ["group", "instance"])
def test_a_large_mean(case, threads):
    function = CASES[case][0]
    compare(function, drawn(case, mean=1e4), 2e-3)
    x, w, b = (a.astype(np.float32) for a in drawn(case))
    y = function(np.full_like(x, 0.1), w, b)
    assert np.array_equal(y, np.broadcast_to(b.reshape(1, -1, *[1] * (x.ndim - 2)), x.shape))


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim > 1 else a, lambda a: a[::-1],
], ids=["Fortran", "every second", "reversed"])
def test_other_layouts(case, layout, threads):
    compare(CASES[case][0], drawn(case), 3e-6, layout=layout)
    compare(CASES[case][0], drawn(case), 3e-6, upstream=layout)


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
def test_gradients_that_are_spread(case, threads, ran):
    """Such a gradient is copied for the loops, not left to the text."""
    function, _, _, name = CASES[case]
    for axis in (0, -1):
        compare(lambda *a, axis=axis: ops.sum(function(*a), axis), drawn(case), 1e-5)
    assert name in {n for n, _ in ran}


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-13)])
def test_other_dtypes_run_as_text(case, dtype, tolerance, ran):
    runs_as_text(CASES[case][0], drawn(case), dtype, tolerance)
    assert not ran


@pytest.mark.parametrize("case", ["group", "instance", "rms"])
def test_nan_stays_in_its_set(case, threads):
    function = CASES[case][0]
    arrays = [a.astype(np.float32) for a in drawn(case)]
    arrays[0][(2, *[1] * (arrays[0].ndim - 1))] = np.nan
    got = derivatives(function, arrays)
    with kernels.disabled():
        wanted = derivatives(function, arrays)
    for a, b in zip(got, wanted):
        assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.isnan(got[0]).any()
    assert not np.isnan(got[0]).all()


def averages(arrays, momentum, bessel):
    moved, spread, finite = apply(RunningAverages(momentum, bessel), *arrays)
    return moved, spread, bool(finite)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, 1, 1 / 3])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_running_averages(length, momentum, ran):
    rng = np.random.default_rng(0)
    arrays = [np.abs(rng.standard_normal(length)).astype(np.float32) for _ in range(4)]
    m, v, mean, variance = (a.astype(np.float64) for a in arrays)
    moved, spread, finite = averages(arrays, momentum, 8 / 7)
    assert ran == [("averaged", False)]
    np.testing.assert_allclose(moved, (1 - momentum) * m + momentum * mean, rtol=3e-7)
    np.testing.assert_allclose(spread, (1 - momentum) * v + momentum * 8 / 7 * variance, rtol=3e-7)
    assert moved.dtype == spread.dtype == np.float32
    assert finite


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("place", [0, 36])
def test_averages_that_are_not_finite_are_flagged(which, place, bad, ran):
    arrays = [np.ones(37, np.float32) for _ in range(4)]
    arrays[which][place] = bad
    found = averages(arrays, 0.25, 1.5)
    with kernels.disabled():
        wanted = averages(arrays, 0.25, 1.5)
    assert ran
    assert found[2] is wanted[2] is False
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found[:2], wanted[:2]))


def test_averages_that_overflow_are_flagged_and_large_ones_are_not(ran):
    large = np.full(3, 3e38, np.float32)
    assert averages([large, large, large, large], 0.5, 1.0)[2]
    assert not averages([large, large, large, large], 0.5, 4.0)[2]
    assert averages([large, large, -large, large], 0.5, 1.0)[2]
    assert ran


def test_averages_of_other_kinds_run_as_text(ran):
    ones = [np.ones(6, np.float32) for _ in range(4)]
    per_channel = np.linspace(1, 2, 6).astype(np.float32)
    for arrays, bessel in (([a.astype(np.float64) for a in ones], 1.5), ([a[::2] for a in ones], 1.5),
                           ([*ones[:3], ones[3].astype(np.float64)], 1.5), (ones, per_channel)):
        moved, spread, finite = averages(arrays, 0.5, bessel)
        wanted = 0.5 + 0.5 * (bessel if isinstance(bessel, float) else bessel.astype(np.float64))
        np.testing.assert_allclose(spread, np.broadcast_to(wanted, spread.shape), rtol=1e-6)
        assert np.all(moved == 1)
        assert spread.dtype == arrays[1].dtype
        assert finite
    assert not ran


def test_groups_share_parameters_in_parts_of_the_rows(monkeypatch):
    """More rows than parts, and fewer: every thread sums its own share of γ's and β's gradients."""
    monkeypatch.setattr(loading, "PARALLEL_FROM", 0)
    for images in (1, 2, 3, 9, 17):
        for function, size in ((group_norm(3), 6), (instance_norm, 6)):
            compare(function, draw((images, 6, 4, 5), size), 3e-6)
        compare(rms_norm(5), draw((images, 5), 5)[:2], 3e-6)
