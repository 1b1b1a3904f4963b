"""What the normalizations promise about numbers: large means, constant and huge and quiet channels, half precision."""

import numpy as np
import pytest
import references
from cases import relative

import minigrad as mg
from minigrad import Tensor, ops
from minigrad.errors import ArgumentError, DtypeError, ShapeError

RNG = np.random.default_rng(0)
GAMMA, BETA = np.array([1.5, -0.5, 2.0]), np.array([0.25, -1.0, 3.0])


def batch(x, w=None, b=None):
    return ops.batch_norm(x, w, b)[0]


def layer(x, w=None, b=None):
    return ops.layer_norm(x, x.shape[-1], w, b)


WITHOUT_EPS = {
    batch: lambda x: ops.batch_norm(x, eps=0.0)[0],
    layer: lambda x: ops.layer_norm(x, x.shape[-1], eps=0.0),
}


def gradients(function, x, gy, *parameters):
    """y and the gradients of all arguments, as arrays."""
    xs = [Tensor(a, requires_grad=True) for a in (x, *parameters)]
    y = function(*xs)
    return [y.numpy(), *(g.numpy() for g in mg.grad(y, xs, np.asarray(gy, y.dtype)))]


def against_float64(function, x, tolerance, *parameters):
    """y and all gradients of a call in the dtype of x, within a tolerance of the same in float64."""
    gy = np.random.default_rng(1).normal(size=x.shape).astype(x.dtype)
    found = gradients(function, x, gy, *(p.astype(np.float32) for p in parameters))
    wanted = gradients(function, x.astype(np.float64), gy.astype(np.float64),
                       *(p.astype(np.float32).astype(np.float64) for p in parameters))
    assert found[0].dtype == x.dtype
    for f, w in zip(found, wanted):
        assert np.isfinite(f).all()
        assert relative(f, w) <= tolerance


@pytest.mark.parametrize("mean", [0.0, 10.0, 1e2, 1e3, 1e4])
def test_large_means(mean):
    """E[x²] − E[x]² loses every digit at 1e4, and a naive mean of 65,536 values loses three."""
    against_float64(batch, (RNG.normal(size=(65536, 3)) + mean).astype(np.float32), 1e-3, GAMMA, BETA)


def test_large_means_of_images():
    against_float64(batch, (RNG.normal(size=(16, 3, 32, 32)) + 3e3).astype(np.float32), 1e-3, GAMMA, BETA)


def test_large_means_of_layers():
    against_float64(layer, (RNG.normal(size=(8, 4096)) + 1e4).astype(np.float32), 1e-3)


def test_the_float64_reference_itself():
    x = RNG.normal(size=(64, 3)) + 1e4
    for found, wanted in zip(ops.batch_norm(x, GAMMA, BETA), references.batch_norm(x, GAMMA, BETA)):
        assert relative(found, wanted) <= 1e-10


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("constant", [0.1, 1e7, 1e10, -3.3, 0.0])
@pytest.mark.parametrize("shape", [(1000, 3), (7, 3, 9, 9)], ids=str)
def test_constant_channels_give_exactly_beta(constant, dtype, shape):
    gy = RNG.normal(size=shape)
    y, gx, gw, gb = gradients(batch, np.full(shape, constant, dtype), gy, GAMMA.astype(dtype), BETA.astype(dtype))
    wide = (1, 3) + (1,) * (len(shape) - 2)
    np.testing.assert_array_equal(y, np.broadcast_to(BETA.astype(dtype).reshape(wide), shape))
    np.testing.assert_array_equal(gw, np.zeros(3))
    assert np.isfinite(gx).all()
    axes = (0, *range(2, len(shape)))
    assert relative(gx, (GAMMA.reshape(wide) * (gy - gy.mean(axes, keepdims=True)) / np.sqrt(1e-5))) <= 1e-4
    assert relative(gb, gy.sum(axes)) <= 1e-4


def test_constant_rows_of_layers_give_exactly_beta():
    x = np.broadcast_to(np.array([[0.1], [1e7], [1e10]], np.float32), (3, 3))
    y, gx, gw, _ = gradients(layer, x, RNG.normal(size=(3, 3)), GAMMA.astype(np.float32), BETA.astype(np.float32))
    np.testing.assert_array_equal(y, np.broadcast_to(BETA.astype(np.float32), (3, 3)))
    np.testing.assert_array_equal(gw, np.zeros(3))
    assert np.isfinite(gx).all()


@pytest.mark.parametrize("scale", [1e15, 1e19, 1e20, 1e25, 1e30, 1e37])
@pytest.mark.parametrize("function", [batch, layer])
def test_huge_values(function, scale):
    """Their squares overflow float32."""
    against_float64(function, (RNG.normal(size=(50, 3)) * scale).astype(np.float32), 1e-5, GAMMA, BETA)


def test_one_huge_channel_among_others():
    x = RNG.normal(size=(50, 3)) * [1.0, 1e30, 1e-3]
    against_float64(batch, x.astype(np.float32), 1e-5, GAMMA, BETA)
    x = x.astype(np.float32)
    found, wanted = batch(x), batch(x.astype(np.float64))
    for c in range(3):
        assert relative(found[:, c], wanted[:, c]) <= 1e-5


@pytest.mark.parametrize("scale", [1e-2, 1e-3, 1e-5, 1e-20, 1e-30])
def test_quiet_channels(scale):
    """ε decides below its root, and squares underflow to 0 without harm."""
    against_float64(batch, (RNG.normal(size=(50, 3)) * scale).astype(np.float32), 1e-5, GAMMA, BETA)


def test_quiet_channels_far_from_zero():
    """What is lost is no more than the mean's own rounding in float32, half a step, against the deviation."""
    x = (1e3 + RNG.normal(size=(500, 3)) * 1e-2).astype(np.float32)
    against_float64(batch, x, np.spacing(np.float32(1e3)) / 2 / 1e-2, GAMMA, BETA)


@pytest.mark.parametrize("function", [batch, layer])
def test_half_precision(function):
    """300² is infinite in float16, so statistics are taken in float32."""
    against_float64(function, (RNG.normal(size=(64, 3)) * 300).astype(np.float16), 5e-3, GAMMA, BETA)
    against_float64(function, (RNG.normal(size=(64, 3)) + 1000).astype(np.float16), 5e-3, GAMMA, BETA)
    statistics = ops.batch_norm((RNG.normal(size=(64, 3)) * 300).astype(np.float16))[1:]
    assert all(s.dtype == np.float32 for s in statistics)


def test_half_precision_in_evaluation():
    x = (RNG.normal(size=(64, 3)) * 300).astype(np.float16)
    mean, variance = np.array([0, 10, -20], np.float32), np.array([9e4, 1e5, 8e4], np.float32)
    y = ops.batch_norm_inference(x, mean, variance)
    assert y.dtype == np.float16
    assert relative(y, references.batch_norm_inference(*(a.astype(np.float64) for a in (x, mean, variance)))) <= 5e-3


@pytest.mark.parametrize("rows", [100_000])
def test_parameter_gradients_over_many_rows(rows):
    x, gy = RNG.normal(size=(rows, 3)).astype(np.float32), np.abs(RNG.normal(size=(rows, 3))).astype(np.float32)
    for function in (batch, layer):
        _, _, gw, gb = gradients(function, x, gy, GAMMA.astype(np.float32), BETA.astype(np.float32))
        wanted = gradients(function, x.astype(np.float64), gy, GAMMA, BETA)
        assert relative(gb, wanted[3]) <= 2e-5
        assert relative(gw, wanted[2]) <= 1e-3


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)], ids=str)
def test_one_value_per_channel_is_refused(shape):
    with pytest.raises(ShapeError, match=r"batch_norm.*1, 3.*more than one value per channel") as refused:
        ops.batch_norm(np.ones(shape))
    assert isinstance(refused.value, ValueError)
    assert "drop_last" in str(refused.value)
    assert ops.batch_norm(np.ones((1, 3, 1, 2)))[0].shape == (1, 3, 1, 2)
    assert ops.batch_norm_inference(np.ones(shape), np.zeros(3), np.ones(3)).shape == shape


@pytest.mark.parametrize("function", [
    lambda x: ops.batch_norm(x, np.ones(3)), lambda x: ops.batch_norm(x, None, np.ones((1, 4))),
    lambda x: ops.batch_norm(x[0]), lambda x: ops.batch_norm_inference(x, np.ones(3), np.ones(4)),
    lambda x: ops.layer_norm(x, 3), lambda x: ops.layer_norm(x, (5, 2, 4)), lambda x: ops.layer_norm(x, 4, np.ones(2)),
], ids=["weight", "bias", "rank", "running mean", "normalized shape", "too many axes", "layer weight"])
def test_shapes_that_do_not_fit(function):
    with pytest.raises(ShapeError, match=r"got .* wanted"):
        function(np.ones((2, 4)))


def test_other_refusals():
    with pytest.raises(DtypeError, match="int64"):
        ops.batch_norm(np.ones((2, 4), np.int64))
    for eps in (-1e-5, float("nan")):
        with pytest.raises(ArgumentError, match="eps"):
            ops.layer_norm(np.ones((2, 4)), 4, eps=eps)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 2, 2)], ids=str)
def test_evaluation_is_an_exact_affine_map(shape):
    """y(x) = a·x + c with one a and c per channel, and its gradient is a: nothing of the batch enters."""
    x, mean, variance = RNG.normal(size=shape), RNG.normal(size=3), RNG.uniform(0.5, 2, 3)
    wide = (1, 3) + (1,) * (len(shape) - 2)
    a = (GAMMA / np.sqrt(variance + 1e-5)).reshape(wide)
    c = BETA.reshape(wide) - a * mean.reshape(wide)
    gy = RNG.normal(size=shape)
    y, gx, *rest = gradients(ops.batch_norm_inference, x, gy, mean, variance, GAMMA, BETA)
    assert relative(y, a * x + c) <= 1e-14
    assert relative(gx, a * gy) <= 1e-14
    assert all(np.abs(g).min() > 0 for g in rest)  # every argument has a gradient
    alone = ops.batch_norm_inference(x[:1], mean, variance, GAMMA, BETA)
    np.testing.assert_array_equal(alone, y[:1])


@pytest.mark.parametrize("function", [batch, layer])
def test_the_sum_of_outputs_does_not_depend_on_the_input(function):
    x = Tensor(RNG.normal(size=(32, 8)), requires_grad=True)
    (g,) = mg.grad(function(x).sum(), x)
    assert np.abs(g.numpy()).max() <= 1e-12
    (g,) = mg.grad(ops.square(WITHOUT_EPS[function](x)).sum(), x)  # nor does the sum of squares
    assert np.abs(g.numpy()).max() <= 1e-12


@pytest.mark.parametrize("layout", ["transposed", "channels last", "sliced", "reversed", "fortran"])
def test_memory_layout_of_input_and_gradient(layout):
    views = {
        "transposed": lambda a: np.ascontiguousarray(a.T).T,
        "channels last": lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)).transpose(0, 3, 1, 2),
        "sliced": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        "reversed": lambda a: a[::-1].copy()[::-1],
        "fortran": np.asfortranarray,
    }
    x, gy = RNG.normal(size=(4, 3, 5, 5)), RNG.normal(size=(4, 3, 5, 5))
    view, gview = views[layout](x), views[layout](gy)
    assert not view.flags.c_contiguous
    for found, wanted in zip(gradients(batch, view, gview, GAMMA, BETA), gradients(batch, x, gy, GAMMA, BETA)):
        assert relative(found, wanted) <= 1e-13


def test_inputs_are_never_written_to():
    arrays = [RNG.normal(size=(6, 3)), GAMMA.copy(), BETA.copy()]
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False  # a write would raise
    xs = [Tensor(a, requires_grad=True) for a in arrays]
    y, mean, variance, rstd = ops.batch_norm(*xs)
    (y.sum() + mean.sum() + variance.sum() * rstd.sum()).backward(create_graph=True)
    ops.batch_norm_inference(xs[0], mean.reshape(-1), variance.reshape(-1), *xs[1:]).sum().backward()
    for a, copy in zip(arrays, copies):
        np.testing.assert_array_equal(a, copy)


def test_statistics():
    """The variance is the biased one, and rstd its inverse root with ε inside."""
    x = RNG.normal(size=(5, 3, 2))
    y, mean, variance, rstd = ops.batch_norm(x, eps=0.1)
    assert mean.shape == variance.shape == rstd.shape == (1, 3, 1)
    assert relative(mean, x.mean((0, 2), keepdims=True)) <= 1e-14
    assert relative(variance, x.var((0, 2), keepdims=True)) <= 1e-14
    assert relative(rstd, 1 / np.sqrt(x.var((0, 2), keepdims=True) + 0.1)) <= 1e-14
    assert relative(y.mean((0, 2)) + 1, np.ones(3)) <= 1e-14


def test_not_a_number_stays_in_its_channel():
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    x[2, 1] = np.nan
    x[4, 2] = np.inf
    y = ops.batch_norm(x)[0]
    assert np.isfinite(y[:, 0]).all()
    assert np.isnan(y[:, 1]).all()
    assert np.isnan(y[4, 2])


@pytest.mark.parametrize("function", [batch, layer])
def test_gradients_ignore_scale_and_shift_of_the_input(function):
    """y(a·x + b) = y(x) for a > 0 without ε, so its gradient is that of x divided by a."""
    x, gy = RNG.normal(size=(8, 5)), RNG.normal(size=(8, 5))
    y, g = gradients(WITHOUT_EPS[function], x, gy)
    y2, g2 = gradients(WITHOUT_EPS[function], 4 * x + 3, gy)
    assert relative(y2, y) <= 1e-13
    assert relative(g2 * 4, g) <= 1e-13
