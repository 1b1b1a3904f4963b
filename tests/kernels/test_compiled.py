"""The compiled kernels against their operations' texts in float64, over shapes and layouts, and what they decline."""

import numpy as np
import pytest
from normalization_kernels import BATCH, LAYER, close, compare, draw, run

from minigrad import Tensor, grad, kernels, ops
from minigrad.kernels.compiled import loading, normalization
from minigrad.ops.normalization_texts import BatchNorm

pytest.importorskip("numba")


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("shape", BATCH, ids=str)
def test_batch_norm(shape, parameters, threads):
    compare("batch", None, draw(shape, shape[1]), "cpu", np.float32, parameters, 2e-6 if shape[0] > 2 else 1e-4)


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize(("shape", "axes"), LAYER, ids=str)
def test_layer_norm(shape, axes, parameters, threads):
    inner = shape[len(shape) - axes :]
    compare("layer", inner, draw(shape, inner), "cpu", np.float32, parameters, 2e-6)


@pytest.mark.parametrize("shape", [(65536, 4), (64, 4, 32, 32)], ids=str)
def test_numerics(shape, threads):
    rng = np.random.default_rng(0)
    axes = (0, *range(2, len(shape)))
    for x, tolerance in ((rng.standard_normal(shape) + 1e4, 1e-3), (rng.standard_normal(shape) * 1e30, 1e-5)):
        x = x.astype(np.float32)
        wide = x.astype(np.float64)
        wanted = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
        assert np.abs(ops.batch_norm(x)[0] - wanted).max() < tolerance
    for constant in (0.1, 1e7, 1e10):
        t = Tensor(np.full(shape, constant, np.float32), True)
        weight, bias = (Tensor(a.astype(np.float32), True) for a in (np.ones(shape[1]), np.linspace(-1, 1, shape[1])))
        y = ops.batch_norm(t, weight, bias)[0]
        assert np.array_equal(y.data, np.broadcast_to(bias.data.reshape(1, -1, *[1] * (len(shape) - 2)), shape))
        gx, gw = grad(y, (t, weight), Tensor(rng.standard_normal(shape).astype(np.float32)))
        assert np.isfinite(gx.data).all()
        assert not gw.data.any()


@pytest.mark.parametrize("scale", [1e30, 1e-15])
@pytest.mark.parametrize(("kind", "shape", "size"), [("batch", (256, 4, 16, 16), 4), ("batch", (300, 40), 40),
                                                     ("layer", (40, 512), 512)], ids=str)
def test_gradients_of_huge_and_tiny_values(kind, shape, size, scale, threads):
    arrays = draw(shape, size, mean=0.5)
    arrays[0] = (arrays[0] * scale).astype(np.float32)
    with kernels.disabled():
        wanted = run(kind, size, [a.astype(np.float32).astype(np.float64) for a in arrays], "cpu", np.float64, True)
    got = run(kind, size, arrays, "cpu", np.float32, True)
    for place in (0, -3, -2, -1):  # y and the gradients; the variance may be beyond float32
        assert np.abs(got[place] - wanted[place]).max() <= 1e-5 * np.abs(wanted[place]).max()


@pytest.mark.parametrize("shape", [(64, 3, 8, 8), (300, 5), (40, 3, 512)], ids=str)
@pytest.mark.parametrize(("scale", "loss_scale"), [(1e30, 1e9), (1e36, 1e3)])
def test_products_of_huge_values_with_scaled_gradients(shape, scale, loss_scale, threads):
    """Σ g·(x − μ) is beyond float32, the gradients are not."""
    rng = np.random.default_rng(3)
    x, g = (rng.standard_normal(shape) * scale).astype(np.float32), rng.standard_normal(shape) * loss_scale
    found = []
    for dtype in (np.float32, np.float64):
        leaves = [Tensor(a.astype(dtype), True) for a in (x, np.ones(shape[1]), np.zeros(shape[1]))]
        found.append([t.numpy() for t in grad(ops.batch_norm(*leaves)[0], leaves, Tensor(g.astype(dtype)))])
    for a, b in zip(*found):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("needs", [(True, False, False), (True, True, False), (False, True, True), (True, False, True)],
                         ids=str)
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_only_what_is_needed_is_given(kind, needs):
    arrays = draw((12, 8), 8)
    results = []
    for dtype in (np.float64, np.float32):
        x, w, b = (Tensor(a.astype(dtype), need) for a, need in zip(arrays, needs))
        y = ops.batch_norm(x, w, b)[0] if kind == "batch" else ops.layer_norm(x, 8, w, b)
        g = Tensor(np.random.default_rng(9).standard_normal((12, 8)).astype(dtype))
        results.append([t.numpy() for t in grad(y, [t for t in (x, w, b) if t.requires_grad], g)])
    for a, b in zip(*reversed(results)):
        close(a, b, 2e-6)


def test_what_they_cannot_take_runs_as_text():
    x = np.random.default_rng(0).standard_normal((6, 4, 5, 5)).astype(np.float32)
    for view in (x[:, ::2], x.swapaxes(2, 3), x[1:, :, 1:], np.asfortranarray(x), x[::-1], x.astype(np.float16)):
        op = BatchNorm((0, 2, 3), (1, view.shape[1], 1, 1), 1e-5)
        assert (normalization.forward(op, view, None, None) is NotImplemented) == (view.dtype != np.float32
                                                                                   or not view.flags.c_contiguous)
        wanted = ops.batch_norm(np.ascontiguousarray(view).astype(np.float64))[0]
        close(ops.batch_norm(view)[0].astype(np.float64), wanted, 2e-6 if view.dtype == np.float32 else 2e-3)


def test_inputs_are_left_alone_and_nan_stays_in_its_set():
    x, w, b = (a.astype(np.float32) for a in draw((8, 3, 4, 4), 3))
    x[2, 1, 0, 0] = np.nan
    kept = [a.copy() for a in (x, w, b)]
    y, mean, variance, _ = ops.batch_norm(x, w, b)
    assert all(np.array_equal(a, c, equal_nan=True) for a, c in zip((x, w, b), kept))
    for statistic in (y.mean((0, 2, 3)), mean.ravel(), variance.ravel()):
        assert np.isnan(statistic).tolist() == [False, True, False]


def test_threads_do_not_change_the_result(monkeypatch):
    arrays = draw((64, 32, 20, 20), 32)
    results = []
    for least in (0, 2**62):
        monkeypatch.setattr(loading, "PARALLEL_FROM", least)
        results.append(run("batch", None, arrays, "cpu", np.float32, True))
    for a, b in zip(*results):
        close(a, b, 1e-6)
