"""What kernels of normalizations are tested with on every device: shapes, draws, and a comparison with the texts."""

import numpy as np

from minigrad import Tensor, grad, kernels, ops

BATCH = [(60, 100), (2, 3), (300, 33), (4096, 1), (64, 16, 28, 28), (8, 3, 7, 9), (2, 5, 1, 1, 4), (33, 130, 6, 6),
         (16, 4, 5), (512, 2, 64, 64), (1, 3, 4, 4)]
LAYER = [((10, 64), 1), ((3, 5), 1), ((7, 1000), 1), ((64, 4096), 1), ((4, 6, 50), 1), ((4, 3, 8, 8), 3),
         ((2, 8192), 1), ((5, 7), 2), ((3, 40000), 1), ((2000, 16), 1)]
#: shape and number of groups
GROUP = [((4, 12), 3), ((2, 8, 9), 2), ((3, 64, 7, 7), 4), ((2, 32, 56, 56), 8), ((5, 6, 3, 4, 4), 1),
         ((2, 4, 300, 300), 2)]
INSTANCE = [(4, 6, 9), (3, 5, 8, 8), (2, 64, 56, 56), (2, 3, 4, 5, 6), (1, 2, 300, 500)]


def _given(shape):
    """Statistics for evaluation, one per channel."""
    rng = np.random.default_rng(5)
    return rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])


def _evaluated(x, w, b, activation=None):
    wide = np.float64 if x.dtype == np.float64 else np.float32
    mean, variance = (Tensor(a.astype(wide), device=x.device) for a in _given(x.shape))
    return (ops.batch_norm_inference(x, mean, variance, w, b, activation=activation),)


#: By name, functions of x, γ, β and what `inner` says: the normalized shape, or the number of groups.
FUNCTIONS = {
    "batch": lambda inner, x, w, b: ops.batch_norm(x, w, b),
    "relu": lambda inner, x, w, b: ops.batch_norm(x, w, b, activation="relu"),
    "sigmoid": lambda inner, x, w, b: ops.batch_norm(x, w, b, activation="sigmoid"),
    "residual relu": lambda inner, x, w, b: ops.batch_norm(x, w, b, activation="relu", residual=x * -0.7),
    "residual sigmoid": lambda inner, x, w, b: ops.batch_norm(x, w, b, activation="sigmoid", residual=x * -0.7),
    "evaluated": lambda inner, x, w, b: _evaluated(x, w, b),
    "layer": lambda inner, x, w, b: (ops.layer_norm(x, inner, w, b),),
    "rms": lambda inner, x, w, b: (ops.rms_norm(x, inner, w, 1e-5),),
    "group": lambda inner, x, w, b: (ops.group_norm(x, inner, w, b),),
    "instance": lambda inner, x, w, b: ops.instance_norm(x, w, b),
}


def run(kind, inner, arrays, device, dtype, parameters):
    """All outputs, the statistics (where the function gives them) among them, and the gradients."""
    dtypes = (dtype, *[np.float64 if dtype == np.float64 else np.float32] * 2)
    tensors = [Tensor(a.astype(d), True, device=device) for a, d in zip(arrays, dtypes)]
    x, w, b = tensors if parameters else (tensors[0], None, None)
    outs = FUNCTIONS[kind](inner, x, w, b)
    y = outs[0]
    g = Tensor(np.random.default_rng(9).standard_normal(y.shape).astype(dtype), device=device)
    found = grad(y, [t for t in (x, w, b) if t is not None], g, allow_unused=True)
    return [t.numpy().astype(np.float64) for t in (*outs, *found) if t is not None]


def close(got, wanted, tolerance):
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(np.abs(wanted).max(), 1e-3)


def compare(kind, inner, arrays, device, dtype, parameters, tolerance):
    """Kernels on `device` against the text on the CPU in float64, from the same rounded inputs."""
    rounded = [a.astype(d).astype(np.float64) for a, d in zip(arrays, (dtype, np.float32, np.float32))]
    with kernels.disabled():
        wanted = run(kind, inner, rounded, "cpu", np.float64, parameters)
    got = run(kind, inner, arrays, device, dtype, parameters)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        close(a, b, tolerance)


def parameter_shape(kind, shape, inner):
    """The shape of γ and β."""
    return inner if kind in ("layer", "rms") else shape[1]


def draw(shape, size, mean=3.0):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + mean, rng.standard_normal(size), rng.standard_normal(size)]
