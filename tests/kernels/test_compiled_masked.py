"""Compiled BatchNorm and LayerNorm with a mask against their text in float64, and against selections written out."""

import numpy as np
import pytest
from kernels_and_texts import compare, derivatives, runs_as_text

from minigrad import kernels, ops

pytest.importorskip("numba")

#: By kind, the shape of x, that of γ and β, and shapes that a mask may have.
SHAPES = {
    "batch": ((6, 8, 5, 7), 8, [(6, 5, 7), (6, 1, 5, 7), (6, 1, 1, 1), (6, 8, 5, 7), (1, 1, 5, 1), (6, 8, 1, 1),
                                (1, 1, 1, 7), (1, 8, 5, 7)]),
    "sequences": ((9, 5, 33), 5, [(9, 33), (9, 1, 33), (9, 1, 1), (1, 1, 33)]),
    "volumes": ((4, 3, 2, 3, 4), 3, [(4, 2, 3, 4), (4, 1, 1, 1, 1)]),
    "features": ((40, 33), 33, [(40,), (40, 1), (40, 33)]),
    "one feature": ((70, 1), 1, [(70,)]),
    "layer": ((7, 11, 40), 40, [(7, 11), (7, 11, 1), (7, 11, 40), (1, 11, 40), (1, 1, 40), (7, 1, 1)]),
    "layer, two axes": ((6, 5, 8), (5, 8), [(6,), (6, 1, 1), (6, 1, 8), (6, 5, 1), (6, 5, 8)]),
    "layer, all axes": ((9, 8), (9, 8), [(9, 8), (9, 1), (1, 8)]),
    "layer, one axis": ((50,), 50, [(50,)]),
}
CASES = [(kind, mask) for kind, (_, _, masks) in SHAPES.items() for mask in masks]
LOOPS = {"batch": "planes", "sequences": "planes", "volumes": "planes", "features": "columns", "one feature": "columns"}


def function_of(kind, mask):
    if kind.startswith("layer"):
        return lambda x, w=None, b=None: ops.layer_norm(x, SHAPES[kind][1], w, b, mask=mask)
    return lambda x, w=None, b=None: ops.batch_norm(x, w, b, mask=mask)[0]


def drawn(kind, mean=1.0):
    shape, size, _ = SHAPES[kind]
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + mean, rng.standard_normal(size), rng.standard_normal(size)]


def mask_of(shape):
    """Three of four count, and somewhere there are wholes and nothings along the first axis."""
    mask = np.random.default_rng(1).random(shape) < 0.75
    if len(mask) > 3:
        mask[1], mask[2] = True, False
    return mask


@pytest.mark.parametrize("parameters", [3, 2, 1], ids=["all", "weight alone", "plain"])
@pytest.mark.parametrize(("kind", "shape"), CASES, ids=str)
def test_values_and_gradients(kind, shape, parameters, threads, ran):
    compare(function_of(kind, mask_of(shape)), drawn(kind)[:parameters], 5e-6)
    assert {name for name, _ in ran} == {LOOPS.get(kind, "rows")}
    assert {parallel for _, parallel in ran} == {threads and kind != "one feature"}


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
def test_second_order(kind, threads):
    compare(function_of(kind, mask_of(SHAPES[kind][2][1])), drawn(kind), 1e-5, order=2)


@pytest.mark.parametrize("kind", ["batch", "sequences", "layer"])
def test_a_mask_of_ones_changes_nothing(kind, threads):
    arrays = [a.astype(np.float32) for a in drawn(kind)]
    everything = np.ones(SHAPES[kind][2][0], bool)
    plain = derivatives(function_of(kind, None), arrays)
    masked = derivatives(function_of(kind, everything), arrays)
    if kind == "layer":  # its rows are added up in other groups
        for a, b in zip(masked, plain):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    else:
        assert all(np.array_equal(a, b) for a, b in zip(masked, plain))


def test_statistics_are_those_of_the_rows_that_count(threads):
    """BatchNorm of (N, C) with a mask of rows is BatchNorm of these rows."""
    x, w, b = (a.astype(np.float32) for a in drawn("features"))
    mask = mask_of((40,))
    y, *statistics = ops.batch_norm(x, w, b, mask=mask)
    some, *wanted = ops.batch_norm(x[mask], w, b)
    np.testing.assert_allclose(y[mask], some, rtol=0, atol=2e-6)
    assert not y[~mask].any()
    for a, c in zip(statistics, wanted):
        assert a.shape == c.shape == (1, 33)
        np.testing.assert_allclose(a, c, rtol=2e-6)


@pytest.mark.parametrize(("kind", "shape"), CASES, ids=str)
@pytest.mark.parametrize("filler", [np.nan, 3e38])
def test_what_does_not_count_is_never_looked_at(kind, shape, filler, threads):
    """Neither in x nor in its gradient: the same bits as with zeros there, and 0 where nothing counts."""
    mask = mask_of(shape)
    arrays = [a.astype(np.float32) for a in drawn(kind)]
    spread = mask if mask.ndim == arrays[0].ndim else None
    if spread is None:
        missing = tuple(i for i, n in enumerate(arrays[0].shape) if i >= len(mask.shape) or mask.shape[i] != n)
        spread = np.expand_dims(mask, 1 if not kind.startswith("layer") else missing)
    counts = np.broadcast_to(spread, arrays[0].shape)
    found = []
    for fill in (0, filler):
        x = np.where(counts, arrays[0], np.float32(fill))
        found.append(derivatives(function_of(kind, mask), [x, *arrays[1:]],
                                 upstream=lambda g, fill=fill: np.where(counts, g, g.dtype.type(fill))))
    for a, b in zip(*found):
        assert np.array_equal(a, b)
    for a in found[1][:2]:
        assert not a[~counts].any()


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
@pytest.mark.parametrize("scale", [1e30, 1e-15])
def test_huge_and_tiny_values(kind, scale, threads):
    x, *parameters = drawn(kind)
    compare(function_of(kind, mask_of(SHAPES[kind][2][1])), [x * scale, *parameters], 1e-5)


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
@pytest.mark.parametrize(("scale", "loss_scale"), [(1e30, 1e9), (1e36, 1e3)])
def test_products_of_huge_values_with_scaled_gradients(kind, scale, loss_scale, threads):
    """Σ g·(x − μ) is beyond float32, the gradients are not."""
    if kind == "layer":
        scale, loss_scale = 1e30, 1.0  # its loops take the product with x̂, which is never large
    x, *parameters = drawn(kind)
    compare(function_of(kind, mask_of(SHAPES[kind][2][1])), [x * scale, *parameters], 1e-5,
            upstream=lambda g: g * g.dtype.type(loss_scale))


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
def test_a_large_mean_and_equal_values(kind, threads):
    mask = mask_of(SHAPES[kind][2][1])
    compare(function_of(kind, mask), drawn(kind, mean=1e4), 2e-3)
    x, w, b = (a.astype(np.float32) for a in drawn(kind))
    y = function_of(kind, mask)(np.full_like(x, 0.1), w, b)
    along = b if kind == "layer" else b.reshape(1, -1, *[1] * (x.ndim - 2))
    assert np.array_equal(y, np.where(mask, along, 0))


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
def test_masks_whose_bytes_are_not_ones(kind, threads):
    """A view of other bytes as bool is True where they are not 0."""
    mask = mask_of(SHAPES[kind][0])
    odd = (mask * np.uint8(255)).view(bool)
    arrays = [a.astype(np.float32) for a in drawn(kind)]
    for a, b in zip(derivatives(function_of(kind, odd), arrays), derivatives(function_of(kind, mask), arrays)):
        assert np.array_equal(a, b)


def test_sets_of_which_nothing_counts(threads):
    """Their statistics are 0, and their gradients too."""
    x, w, b = (a.astype(np.float32) for a in drawn("layer"))
    for mask in (np.zeros((7, 11), bool), np.zeros((7, 11, 40), bool)):
        for a in derivatives(function_of("layer", mask), [x, w, b]):
            assert not a.any()


@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim > 1 else a, lambda a: a[::-1],
], ids=["Fortran", "every second", "reversed"])
@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
def test_other_layouts(kind, layout, threads):
    mask = mask_of(SHAPES[kind][0])
    compare(function_of(kind, layout(mask)), drawn(kind), 3e-6)
    compare(function_of(kind, mask), drawn(kind), 3e-6, layout=layout)
    compare(function_of(kind, mask), drawn(kind), 3e-6, upstream=layout)


@pytest.mark.parametrize("kind", ["batch", "features", "layer"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float64, 1e-13)])
def test_other_dtypes_run_as_text(kind, dtype, tolerance, ran):
    runs_as_text(function_of(kind, mask_of(SHAPES[kind][2][1])), drawn(kind), dtype, tolerance)
    assert not ran


def test_gradients_of_statistics_run_as_text(ran):
    x = drawn("batch")[0]
    mask = mask_of((6, 5, 7))
    compare(lambda t: ops.sum(ops.batch_norm(t, mask=mask)[2]), [x], 3e-6)
    assert [name for name, _ in ran].count("planes") == 1  # forward alone


def test_nan_stays_in_its_set(threads):
    arrays = [a.astype(np.float32) for a in drawn("batch")]
    mask = mask_of((6, 5, 7))
    mask[3, 1, 1] = True
    arrays[0][3, 2, 1, 1] = np.nan
    got = derivatives(function_of("batch", mask), arrays)
    with kernels.disabled():
        wanted = derivatives(function_of("batch", mask), arrays)
    for a, b in zip(got, wanted):
        assert np.array_equal(np.isnan(a), np.isnan(b))
    assert np.isnan(got[0]).any()
    assert not np.isnan(got[0][:, [0, 1, 3, 4, 5, 6, 7]]).any()


def test_threads_do_not_change_the_result(monkeypatch):
    from minigrad.kernels.compiled import loading

    for kind, shape in CASES:
        results = []
        for least in (0, 2**62):
            monkeypatch.setattr(loading, "PARALLEL_FROM", least)
            results.append(derivatives(function_of(kind, mask_of(shape)), [a.astype(np.float32) for a in drawn(kind)]))
        for a, b in zip(*results):
            assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()
