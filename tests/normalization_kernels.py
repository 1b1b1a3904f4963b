"""What kernels of normalizations are tested with on every device: shapes, draws, and a comparison with the texts."""

import numpy as np

from minigrad import Tensor, grad, kernels, ops

BATCH = [(60, 100), (2, 3), (300, 33), (4096, 1), (64, 16, 28, 28), (8, 3, 7, 9), (2, 5, 1, 1, 4), (33, 130, 6, 6),
         (16, 4, 5), (512, 2, 64, 64), (1, 3, 4, 4)]
LAYER = [((10, 64), 1), ((3, 5), 1), ((7, 1000), 1), ((64, 4096), 1), ((4, 6, 50), 1), ((4, 3, 8, 8), 3),
         ((2, 8192), 1), ((5, 7), 2), ((3, 40000), 1), ((2000, 16), 1)]


def run(kind, shape, arrays, device, dtype, parameters):
    """y, the statistics (of batch_norm), and the gradients."""
    dtypes = (dtype, *[np.float64 if dtype == np.float64 else np.float32] * 2)
    tensors = [Tensor(a.astype(d), True, device=device) for a, d in zip(arrays, dtypes)]
    x, w, b = tensors if parameters else (tensors[0], None, None)
    outs = ops.batch_norm(x, w, b) if kind == "batch" else (ops.layer_norm(x, shape, w, b),)
    y = outs[0]
    g = Tensor(np.random.default_rng(9).standard_normal(y.shape).astype(dtype), device=device)
    found = grad(y, [t for t in (x, w, b) if t is not None], g)
    return [t.numpy().astype(np.float64) for t in (*outs, *found)]


def close(got, wanted, tolerance):
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(np.abs(wanted).max(), 1e-3)


def compare(kind, shape, arrays, device, dtype, parameters, tolerance):
    """Kernels on `device` against the text on the CPU in float64, from the same rounded inputs."""
    rounded = [a.astype(d).astype(np.float64) for a, d in zip(arrays, (dtype, np.float32, np.float32))]
    with kernels.disabled():
        wanted = run(kind, shape, rounded, "cpu", np.float64, parameters)
    got = run(kind, shape, arrays, device, dtype, parameters)
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        close(a, b, tolerance)


def draw(shape, size, mean=3.0):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + mean, rng.standard_normal(size), rng.standard_normal(size)]


