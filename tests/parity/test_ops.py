"""Every operation against PyTorch's, in float64: value, first and second derivative."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cases import away, boolean, grid, normal, positive, whole  # noqa: E402
from oracle import same  # noqa: E402

from minigrad import ops  # noqa: E402

F = torch.nn.functional
# Sizes of axes, from empty to larger than any unrolled loop.
SHAPES = [(), (1,), (7,), (2, 3), (3, 1, 4), (2, 3, 4, 5), (0, 3)]


def draw(*inputs):
    rng = np.random.default_rng(0)
    return [np.asarray(i.draw(rng, i.shape)) for i in inputs]


UNARY = {
    "negative": (ops.negative, torch.neg, normal), "exp": (ops.exp, torch.exp, normal),
    "expm1": (ops.expm1, torch.expm1, normal), "log": (ops.log, torch.log, positive),
    "log1p": (ops.log1p, torch.log1p, positive), "sqrt": (ops.sqrt, torch.sqrt, positive),
    "rsqrt": (ops.rsqrt, torch.rsqrt, positive), "square": (ops.square, torch.square, normal),
    "sin": (ops.sin, torch.sin, normal), "cos": (ops.cos, torch.cos, normal), "tanh": (ops.tanh, torch.tanh, normal),
    "abs": (ops.abs, torch.abs, grid), "erf": (ops.erf, torch.erf, normal), "clone": (ops.clone, torch.clone, normal),
    "sigmoid": (ops.sigmoid, torch.sigmoid, normal), "relu": (ops.relu, torch.relu, grid),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.2), lambda t: F.leaky_relu(t, 0.2), grid),
    "gelu": (ops.gelu, F.gelu, normal),
    "gelu tanh": (lambda x: ops.gelu(x, True), lambda t: F.gelu(t, approximate="tanh"), normal),
    "silu": (ops.silu, F.silu, normal), "softplus": (ops.softplus, F.softplus, normal),
    "softplus threshold": (lambda x: ops.softplus(x, 2, 1), lambda t: F.softplus(t, 2, 1), grid),
    "clip": (lambda x: ops.clip(x, -0.3, 0.2), lambda t: torch.clamp(t, -0.3, 0.2), grid),
    "clip low": (lambda x: ops.clip(x, min=-0.3), lambda t: torch.clamp(t, min=-0.3), grid),
    "power 3": (lambda x: ops.power(x, 3), lambda t: t**3, normal),
    "power -1.5": (lambda x: ops.power(x, -1.5), lambda t: t**-1.5, positive),
    "2 to the power": (lambda x: ops.power(2.0, x), lambda t: 2.0**t, normal),
    "1 / x": (lambda x: 1 / x, lambda t: 1 / t, positive),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, shape):
    ours, theirs, kind = UNARY[name]
    same(ours, theirs, *draw(kind(*shape)))


def shifted(*shape):
    return grid(*shape, start=0.1)


BINARY = {
    "add": (ops.add, torch.add, normal, normal), "subtract": (ops.subtract, torch.sub, normal, normal),
    "multiply": (ops.multiply, torch.mul, normal, normal), "divide": (ops.divide, torch.div, normal, positive),
    "power": (ops.power, torch.pow, positive, normal), "maximum": (ops.maximum, torch.maximum, grid, shifted),
    "minimum": (ops.minimum, torch.minimum, grid, shifted), "remainder": (ops.remainder, torch.remainder, normal, away),
}
PAIRS = [((), ()), ((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((4, 1, 2), (3, 1)), ((), (2, 2)),
         ((0, 2), (1, 2))]


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, shapes):
    ours, theirs, first, second = BINARY[name]
    same(ours, theirs, *draw(first(*shapes[0]), second(*shapes[1])))


@pytest.mark.parametrize("shapes", PAIRS, ids=str)
def test_where(shapes):
    same(ops.where, torch.where, *draw(boolean(*shapes[0]), normal(*shapes[0]), normal(*shapes[1])))


def test_clip_between_arrays():
    low, high = np.full((4,), -0.3), np.full((3, 1), 0.2)
    same(ops.clip, torch.clamp, *draw(grid(3, 4)), low, high)
    same(ops.clip, torch.clamp, *draw(grid(3, 4)), high, low)  # bounds crossed


@pytest.mark.parametrize(("ours", "theirs", "values"), [
    (ops.relu, torch.relu, [-1.0, 0, 1]), (ops.abs, torch.abs, [-1.0, 0, 1]),
    (lambda x: ops.clip(x, -1, 1), lambda t: torch.clamp(t, -1, 1), [-2.0, -1, 0, 1, 2]),
    (lambda x: ops.maximum(x, x * 0 + 1), lambda t: torch.maximum(t, t * 0 + 1), [0.0, 1, 2]),
    (ops.max, torch.amax, [1.0, 3, 3, 2]), (ops.min, torch.amin, [1.0, 1, 1, 2]),
    (lambda x: ops.power(x, 2), lambda t: t**2, [0.0, 1]), (lambda x: ops.power(x, 0), lambda t: t**0, [0.0, 1]),
    (ops.softmax, lambda t: torch.softmax(t, 0), [1000.0, 1000, -1000]),
    (ops.logsumexp, lambda t: torch.logsumexp(t, 0), [1000.0, 1000, -1000]),
    (ops.sigmoid, torch.sigmoid, [-800.0, 800]), (ops.softplus, F.softplus, [-800.0, 800]),
], ids=["relu", "abs", "clip", "maximum", "max", "min", "square", "power 0", "softmax", "logsumexp", "sigmoid",
        "softplus"])
def test_at_kinks_and_far_out(ours, theirs, values):
    same(ours, theirs, np.array(values))


AXES = [None, 0, -1, (0, 2), (1, 0)]
REDUCTIONS = {
    "sum": (ops.sum, torch.sum), "mean": (ops.mean, torch.mean),
    "max": (ops.max, torch.amax), "min": (ops.min, torch.amin), "logsumexp": (ops.logsumexp, torch.logsumexp),
    "var": (lambda x, a, keepdims: ops.var(x, a, 0, keepdims),
            lambda t, d, keepdim: torch.var(t, d, correction=0, keepdim=keepdim)),
    "var 1": (lambda x, a, keepdims: ops.var(x, a, 1, keepdims), torch.var),
    "std": (lambda x, a, keepdims: ops.std(x, a, 1, keepdims), torch.std),
}


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name, axis, keepdims):
    ours, theirs = REDUCTIONS[name]
    dims = tuple(range(3)) if axis is None else axis
    same(lambda x: ours(x, axis, keepdims=keepdims), lambda t: theirs(t, dims, keepdim=keepdims), *draw(grid(3, 4, 2)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax(axis):
    x = draw(normal(3, 4, 2, scale=3))
    same(lambda x: ops.softmax(x, axis), lambda t: torch.softmax(t, axis), *x)
    same(lambda x: ops.log_softmax(x, axis), lambda t: torch.log_softmax(t, axis), *x)


SHAPING = {
    "reshape": (lambda x: ops.reshape(x, (4, -1)), lambda t: t.reshape(4, -1)),
    "permute": (lambda x: ops.permute_dims(x, (2, 0, 1)), lambda t: t.permute(2, 0, 1)),
    "swapaxes": (lambda x: ops.swapaxes(x, 0, -1), lambda t: t.swapaxes(0, -1)),
    "moveaxis": (lambda x: ops.moveaxis(x, 0, -1), lambda t: t.moveaxis(0, -1)),
    "transpose": (ops.matrix_transpose, lambda t: t.mT),
    "broadcast": (lambda x: ops.broadcast_to(x, (5, 2, 3, 4)), lambda t: t.broadcast_to(5, 2, 3, 4)),
    "expand_dims": (lambda x: ops.expand_dims(x, 1), lambda t: t.unsqueeze(1)),
    "squeeze": (lambda x: ops.squeeze(x[:1], 0), lambda t: t[:1].squeeze(0)),
    "flatten": (lambda x: ops.flatten(x, 1), lambda t: t.flatten(1)),
    "concat": (lambda x: ops.concat([x, x * x], 1), lambda t: torch.cat([t, t * t], 1)),
    "stack": (lambda x: ops.stack([x, x * x], -1), lambda t: torch.stack([t, t * t], -1)),
    "slice": (lambda x: x[:, ::2, 1:3], lambda t: t[:, ::2, 1:3]),
    "integer": (lambda x: x[1, ..., None], lambda t: t[1, ..., None]),
    "array": (lambda x: x[:, np.array([0, 0, 2])], lambda t: t[:, torch.tensor([0, 0, 2])]),
    "pairs": (lambda x: x[[0, 1, 1], [2, 0, 0]], lambda t: t[[0, 1, 1], [2, 0, 0]]),
    "mask": (lambda x: x[x > 0], lambda t: t[t > 0]),
}


@pytest.mark.parametrize("name", SHAPING)
def test_shapes_and_indices(name):
    ours, theirs = SHAPING[name]
    same(lambda x: ours(x * x * x), lambda t: theirs(t * t * t), *draw(normal(2, 3, 4)))


def test_index_add():
    key = np.array([1, 4, 1])
    same(lambda x: ops.index_add(x, key, (5, 2)),
         lambda t: torch.zeros(5, 2, dtype=t.dtype).index_add(0, torch.tensor(key), t), *draw(normal(3, 2)))


MATRICES = [((2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)),
            ((4, 1, 2, 3), (2, 3, 2)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (4, 3, 2)),
            ((4, 2, 3), (3,)), ((0, 3), (3, 2)), ((2, 0), (0, 3))]


@pytest.mark.parametrize("shapes", MATRICES, ids=str)
def test_matmul(shapes):
    same(ops.matmul, torch.matmul, *draw(*(normal(*s) for s in shapes)))


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (0, 4)], ids=str)
def test_linear(shape):
    same(ops.linear, F.linear, *draw(normal(*shape), normal(2, 4), normal(2)))
    same(ops.linear, F.linear, *draw(normal(*shape), normal(2, 4)))
    same(ops.linear, F.linear, *draw(normal(*shape), normal(4)))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), list(itertools.product(
    [(1, 1), (2, 3)], [(0, 0), (2, 1)], [(1, 1), (2, 1)], [1, 2])), ids=str)
def test_convolution(stride, padding, dilation, groups):
    pads = tuple((p, p) for p in padding)
    same(lambda *xs: ops.convolution(*xs, stride, pads, dilation, groups),
         lambda *ts: F.conv2d(*ts, stride, padding, dilation, groups),
         *draw(normal(2, 4, 7, 8), normal(6, 4 // groups, 3, 2), normal(6)))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolution_over_any_number_of_axes(axes):
    theirs = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    same(lambda x, w: ops.convolution(x, w, None, (2,) * axes, ((1, 1),) * axes, (1,) * axes, 1),
         lambda t, v: theirs(t, v, None, 2, 1), *draw(normal(2, 3, *(5, 4, 6)[:axes]), normal(2, 3, *(3, 2, 2)[:axes])))


NORMALIZED = [(6, 3), (4, 3, 5), (2, 3, 4, 5), (3, 3, 2, 2, 2), (2, 1)]


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("shape", NORMALIZED, ids=str)
def test_batch_norm_in_training(shape, eps):
    c = (shape[1],)
    x, w, b = draw(normal(*shape), normal(*c), normal(*c))
    same(lambda x, w, b: ops.batch_norm(x, w, b, eps)[0],
         lambda t, v, a: F.batch_norm(t, None, None, v, a, True, eps=eps), x, w, b)
    same(lambda x: ops.batch_norm(x, eps=eps)[0], lambda t: F.batch_norm(t, None, None, training=True, eps=eps), x)
    same(lambda x, b: ops.batch_norm(x, w * 0, b, eps)[0],
         lambda t, a: F.batch_norm(t, None, None, torch.zeros(c, dtype=t.dtype), a, True, eps=eps), x, b)


@pytest.mark.parametrize("shape", NORMALIZED, ids=str)
def test_batch_norm_statistics(shape):
    def theirs(t):
        axes = [0, *range(2, t.ndim)]
        variance, mean = torch.var_mean(t, axes, correction=0, keepdim=True)
        return mean, variance, 1 / torch.sqrt(variance + 1e-5)

    same(lambda x: ops.batch_norm(x)[1:], theirs, *draw(normal(*shape)))
    same(lambda x: ops.moments(x, (0, *range(2, x.ndim))), lambda t: theirs(t)[:2], *draw(normal(*shape)))


@pytest.mark.parametrize("shape", NORMALIZED, ids=str)
def test_batch_norm_in_evaluation(shape):
    """PyTorch doesn't differentiate by the running statistics, so they are constants here."""
    c = (shape[1],)
    x, w, b, mean, variance = draw(normal(*shape), normal(*c), normal(*c), normal(*c), positive(*c))
    same(lambda x, w, b: ops.batch_norm_inference(x, mean, variance, w, b),
         lambda t, v, a: F.batch_norm(t, torch.tensor(mean), torch.tensor(variance), v, a), x, w, b)


@pytest.mark.parametrize(("shape", "count"), [((6, 3), 1), ((2, 3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4), 3), ((3, 1), 1)],
                         ids=str)
def test_layer_norm(shape, count):
    last = shape[-count:]
    x, w, b = draw(normal(*shape), normal(*last), normal(*last))
    same(lambda x, w, b: ops.layer_norm(x, last, w, b), lambda t, v, a: F.layer_norm(t, last, v, a), x, w, b)
    same(lambda x: ops.layer_norm(x, last, eps=0.1), lambda t: F.layer_norm(t, last, eps=0.1), x)


@pytest.mark.parametrize(("kernel", "stride", "padding", "ceil"), list(itertools.product(
    [(2, 2), (3, 2)], [(1, 1), (2, 3)], [(0, 0), (1, 1)], [False, True])), ids=str)
def test_pooling(kernel, stride, padding, ceil):
    x = draw(grid(2, 3, 7, 6))
    for dilation in ((1, 1), (2, 1)):
        same(lambda x, d=dilation: ops.max_pool(x, kernel, stride, padding, d, ceil)[0],
             lambda t, d=dilation: F.max_pool2d(t, kernel, stride, padding, d, ceil), *x)
    for include, divisor in ((True, None), (False, None), (True, 3)):
        same(lambda x, i=include, d=divisor: ops.avg_pool(x, kernel, stride, padding, ceil, i, d),
             lambda t, i=include, d=divisor: F.avg_pool2d(t, kernel, stride, padding, ceil, i, d), *x)


def test_indices_of_max_pool():
    (x,) = draw(grid(2, 3, 7, 6))
    for options in itertools.product([(2, 2), (3, 2)], [(1, 1), (2, 3)], [(0, 0), (1, 1)], [(1, 1), (2, 1)]):
        which = ops.flat_indices(ops.max_pool(x, *options)[1], (7, 6), *options)
        wanted = F.max_pool2d(torch.tensor(x), *options, return_indices=True)[1]
        np.testing.assert_array_equal(which, wanted.numpy())


def test_cross_entropy():
    x, q = draw(normal(5, 4), positive(5, 4))
    same(lambda x, q: ops.cross_entropy(x, q, False), lambda t, p: F.cross_entropy(t, p, reduction="none"), x, q)
    same(lambda x, q: ops.cross_entropy(x, q, True), lambda t, p: F.cross_entropy(t, p, reduction="sum"), x, q)
    x, q = draw(normal(2, 4, 3, 2), positive(2, 4, 3, 2))
    same(lambda x, q: ops.cross_entropy(x, q, False), lambda t, p: F.cross_entropy(t, p, reduction="none"), x, q)


def test_comparisons():
    a, b = draw(whole(0, 3, 4, 5), whole(0, 3, 5))
    for name in ("greater", "greater_equal", "less", "less_equal", "not_equal", "equal"):
        theirs = getattr(torch, "eq" if name == "equal" else name)
        np.testing.assert_array_equal(getattr(ops, name)(a, b), theirs(torch.tensor(a), torch.tensor(b)).numpy())
