"""The kernels in NumPy alone against their texts in float64."""

import numpy as np
import pytest
from kernels_and_texts import derivatives
from normalization_kernels import BATCH, close, draw, run

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, ops
from minigrad.kernels import blocked
from minigrad.ops.activation import ReLU, Sigmoid
from minigrad.ops.matmul import Linear
from minigrad.ops.normalization_texts import BatchNorm
from minigrad.ops.pooling import MaxPool, Scatter


@pytest.fixture(autouse=True)
def numpy_tier():
    """No compiled kernels, here."""
    with kernels.tier("numpy"):
        yield


@pytest.fixture(params=[1, 3], ids=["serial", "three threads"])
def threads(request, monkeypatch):
    """Channels or images shared out whatever the size, in small pieces."""
    monkeypatch.setattr(blocked.slabs, "get_num_threads", lambda: request.param)
    monkeypatch.setattr(blocked.slabs, "PARALLEL_FROM", 0)
    monkeypatch.setattr(blocked.normalization, "PIECE", 1 << 10)
    monkeypatch.setattr(blocked.pooling, "PIECE", 1 << 8)


def against_text(function, arrays, tolerance, dtype=np.float32, **options):
    """The tier in a dtype, and the text in float64 from the same numbers."""
    arrays = [np.asarray(a, dtype) for a in arrays]
    with kernels.disabled():
        wanted = derivatives(function, [a.astype(np.float64) for a in arrays], **options)
    got = derivatives(function, arrays, **options)
    for a, b in zip(got, wanted):
        assert a.dtype == dtype
        assert a.shape == b.shape
        if b.size:
            close(a.astype(np.float64), b, tolerance)


LAYOUTS = {"C": lambda a: a, "Fortran": np.asfortranarray, "reversed": lambda a: a[::-1],
           "every second": lambda a: np.repeat(a, 2, -1)[..., ::2] if a.ndim > 1 else a}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
every_dtype = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 4e-3), (np.float32, 2e-6),
                                                               (np.float64, 1e-13)])


# ------------------------------------------------------------------ linear


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (5000, 5), (2, 3, 5), (0, 5)], ids=str)
@every_dtype
def test_linear(shape, bias, dtype, tolerance):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape), rng.standard_normal((4, 5)), rng.standard_normal(4)][: 3 if bias else 2]
    against_text(lambda x, w, b=None: ops.linear(x, w, b), arrays, tolerance * (1 if shape[0] < 5000 else 20), dtype)


@every_layout
def test_linear_layouts(layout):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((7, 5)), rng.standard_normal((4, 5)), rng.standard_normal(4)]
    against_text(ops.linear, arrays, 2e-6, layout=layout)
    against_text(ops.linear, arrays, 2e-6, upstream=layout)
    against_text(lambda *a: ops.sum(ops.linear(*a), 1), arrays, 2e-6)
    against_text(ops.linear, arrays, 5e-6, order=2)


def test_linear_declines():
    op, x, w = Linear(), np.ones((3, 5), np.float32), np.ones((4, 5), np.float32)
    forward, backward, needs = blocked.linear.forward, blocked.linear.backward, (True, True, True)
    assert forward(op, x, w, None) is not NotImplemented
    for given in ((x[0], w, None), (x, w.astype(np.float64), None), (x.astype(np.float16), w.astype(np.float16), None),
                  (x.astype(int), w.astype(int), None), (x, w, np.ones(4))):
        assert forward(op, *given) is NotImplemented
    g = np.ones((3, 4), np.float32)
    gx, gw, gb = backward(op, (None, w), (True, False, True), g)
    assert gw is None
    assert np.array_equal(gx, np.full((3, 5), 4))
    assert np.array_equal(gb, np.full(4, 3))
    for saved, gy in (((x, w), g[None]), ((x, w), g.astype(np.float16)), ((x.astype(np.float64), w), g),
                      ((x, w), np.ones((5000, 4), np.float32))):
        assert backward(op, saved, needs, gy) is NotImplemented


# ------------------------------------------------------------------ activations


@pytest.mark.parametrize("function", [ops.relu, ops.sigmoid])
@pytest.mark.parametrize("shape", [(), (1,), (7, 5), (3, 4, 5), (0, 3)], ids=str)
@every_dtype
def test_activations(function, shape, dtype, tolerance):
    against_text(function, [np.random.default_rng(0).standard_normal(shape)], tolerance, dtype)


@every_layout
@pytest.mark.parametrize("function", [ops.relu, ops.sigmoid])
def test_activation_layouts(function, layout):
    x = [np.random.default_rng(0).standard_normal((6, 4))]
    against_text(function, x, 1e-6, layout=layout)
    against_text(function, x, 1e-6, upstream=layout)
    against_text(lambda t: ops.sum(function(t), 0), x, 1e-6)
    against_text(function, x, 1e-6, order=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_relu_keeps_bad_gradients_out_where_it_is_closed(dtype):
    y = np.array([1, 0, -0.0, np.nan, np.inf, 2, 0, 3], dtype)
    g = np.array([np.inf, np.inf, np.nan, 5, -np.inf, np.nan, -np.inf, -0.0], dtype)
    (found,) = blocked.activation.relu_backward(ReLU(), (y,), (True,), g)
    assert np.array_equal(found, np.array([np.inf, 0, 0, 0, -np.inf, np.nan, 0, 0], dtype), equal_nan=True)
    assert found.dtype == dtype
    (text,) = ReLU().backward((y,), (True,), g)
    assert np.array_equal(found, text, equal_nan=True)
    assert blocked.activation.relu_backward(ReLU(), (y,), (True,), g.astype(np.float16)) is NotImplemented


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_far_out(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 1000, -1000, 0], dtype)
    with np.errstate(all="raise", invalid="ignore", under="ignore"):
        found = blocked.activation.sigmoid(Sigmoid(), x)
    assert np.array_equal(found, np.array([np.nan, 1, 0, 1, 0, 0.5], dtype), equal_nan=True)
    assert found.dtype == dtype
    assert x[3] == 1000
    assert blocked.activation.sigmoid(Sigmoid(), np.arange(3)) is NotImplemented
    assert blocked.activation.sigmoid(Sigmoid(), x.astype(np.float16)) is NotImplemented


# ------------------------------------------------------------------ BatchNorm


def norm(arrays, dtype, parameters=True):
    return run("batch", None, arrays, "cpu", dtype, parameters)


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("shape", [s for s in BATCH if np.prod(s) < 1e6], ids=str)
def test_batch_norm(shape, parameters, threads):
    arrays = [a.astype(np.float32) for a in draw(shape, shape[1])]
    with kernels.disabled():
        wanted = norm([a.astype(np.float64) for a in arrays], np.float64, parameters)
    for a, b in zip(norm(arrays, np.float32, parameters), wanted):
        close(a, b, 3e-6 if shape[0] > 2 else 1e-4)


@pytest.mark.parametrize("shape", [(300, 9), (40, 6, 9, 9)], ids=str)
def test_batch_norm_of_large_means_and_constants(shape, threads):
    rng = np.random.default_rng(0)
    axes = (0, *range(2, len(shape)))
    x = (rng.standard_normal(shape) + 1e4).astype(np.float32)
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    assert np.abs(ops.batch_norm(x)[0] - wanted).max() < 1e-3
    bias = np.linspace(-1, 1, shape[1]).astype(np.float32)
    y = ops.batch_norm(np.full(shape, 0.1, np.float32), None, bias)[0]
    assert np.array_equal(y, np.broadcast_to(bias.reshape(1, -1, *[1] * (len(shape) - 2)), shape))


@pytest.mark.parametrize("shape", [(30, 5), (8, 5, 6, 6)], ids=str)
@pytest.mark.parametrize("scale", [1e30, 1e-15])
def test_huge_values_are_left_to_the_text(shape, scale, threads):
    x, w, b = draw(shape, 5, mean=0.5)
    arrays = [a.astype(np.float32) for a in (x * scale, w, b)]
    op = BatchNorm((0, *range(2, len(shape))), (1, 5, *[1] * (len(shape) - 2)), 1e-5)
    assert (blocked.normalization.forward(op, *arrays) is NotImplemented) == (scale > 1)
    with kernels.disabled():
        wanted = norm([a.astype(np.float64) for a in arrays], np.float64)
    got = norm(arrays, np.float32)
    for place in (0, -3, -2, -1):  # y and the gradients; the variance may be beyond float32
        assert np.abs(got[place] - wanted[place]).max() <= 1e-5 * np.abs(wanted[place]).max()


@pytest.mark.parametrize("shape", [(64, 3, 8, 8), (300, 5), (40, 3, 512)], ids=str)
@pytest.mark.parametrize(("scale", "loss_scale"), [(1e30, 1e9), (1e16, 1e22)])
def test_products_of_huge_values_with_scaled_gradients(shape, scale, loss_scale, threads):
    """Σ g·(x − μ) is beyond float32, the gradients are not."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(shape) * scale).astype(np.float32)

    def found(dtype):
        arrays = [x.astype(dtype), np.ones(shape[1], dtype), np.zeros(shape[1], dtype)]
        return derivatives(lambda *a: ops.batch_norm(*a)[0], arrays, upstream=lambda g: g * dtype(loss_scale))

    for a, b in zip(found(np.float32), found(np.float64)):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_batch_norm_declines():
    op = BatchNorm((0, 2, 3), (1, 4, 1, 1), 1e-5)
    x, w, b = (a.astype(np.float32) for a in draw((6, 4, 5, 5), 4))
    y, mean, variance, rstd = blocked.normalization.forward(op, x, w, b)
    for given in ((x.astype(np.float64), w, b), (np.asfortranarray(x), w, b), (x[::-1], w, b), (x[:0], w, b),
                  (x, w.astype(np.float64), b), (x, w, np.repeat(b, 2)[::2]), (x.astype(np.float16), w, b)):
        assert blocked.normalization.forward(op, *given) is NotImplemented
    bad = x.copy()
    bad[0, 1, 2, 3] = np.nan
    assert blocked.normalization.forward(op, bad, w, b) is NotImplemented
    saved, needs, g = (x, w, mean, rstd), (True, True, True), np.ones_like(y)
    assert blocked.normalization.backward(op, saved, needs, g, None, None, None) is not NotImplemented
    for needed, gradients in ((needs, (g, mean, None, None)), (needs, (g, None, variance, None)),
                              (needs, (None, None, None, rstd)), (needs, (np.asfortranarray(g), None, None, None)),
                              ((False, True, True), (g, None, None, None))):
        assert blocked.normalization.backward(op, saved, needed, *gradients) is NotImplemented


@every_layout
@every_dtype
def test_batch_norm_in_other_layouts_and_dtypes(layout, dtype, tolerance, threads):
    arrays = draw((6, 4, 3, 5), 4)
    against_text(ops.batch_norm, arrays, tolerance * 2, dtype, layout=layout)
    against_text(ops.batch_norm, arrays, tolerance * 2, dtype, upstream=layout)


# ------------------------------------------------------------------ pooling

POOLINGS = [{"kernel_size": 2}, {"kernel_size": (3, 2), "stride": (1, 2)}, {"kernel_size": 2, "stride": 3},
            {"kernel_size": 2, "dilation": 2, "stride": 1}, {"kernel_size": 2, "dilation": 2, "stride": 3}]


def pooled(x, **options):
    """The largest elements, their places, and the gradient of an upstream with an infinity in it."""
    t = Tensor(x, requires_grad=True)
    y, places = F.max_pool2d(t, return_indices=True, **options)
    g = np.random.default_rng(1).standard_normal(y.shape).astype(x.dtype)
    g[0, 0, 0, 0] = np.inf
    return y.numpy(), places.numpy(), grad(y, [t], Tensor(g))[0].numpy()


@pytest.mark.parametrize("options", POOLINGS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.usefixtures("threads")
def test_max_pooling(options, dtype):
    x = np.random.default_rng(0).integers(-3, 4, (5, 3, 9, 8)).astype(dtype)  # many ties
    x[0, 0, 4, 3], x[1, 1, 2, 2], x[2, 0, 0, 0] = np.nan, -np.inf, np.inf
    with kernels.disabled():
        wanted = pooled(x, **options)
    for got, expected in zip(pooled(x, **options), wanted):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected, equal_nan=True)


def test_pooling_declines():
    x, which = np.ones((2, 3, 4, 4), np.float32), np.zeros((2, 3, 2, 2), np.int32)
    plain = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), (2, 2))
    padded = ((2, 2), (2, 2), ((1, 1), (0, 0)), (1, 1), (3, 2))
    overlapping = ((2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (3, 3))
    assert blocked.pooling.forward(MaxPool(*plain), x) is not NotImplemented
    assert blocked.pooling.scatter(Scatter(*plain, (4, 4)), x[:, :, :2, :2], which) is not NotImplemented
    assert blocked.pooling.forward(MaxPool(*padded), x) is NotImplemented
    assert blocked.pooling.forward(MaxPool(*plain), x.astype(np.float16)) is NotImplemented
    assert blocked.pooling.scatter(Scatter(*overlapping, (4, 4)), x[:, :, :3, :3], which) is NotImplemented
