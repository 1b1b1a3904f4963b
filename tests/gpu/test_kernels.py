"""Every CUDA kernel against its operation's text on the CPU in float64, over shapes, layouts and dtypes."""

import numpy as np
import pytest
from normalization_kernels import (
    BATCH,
    FUNCTIONS,
    GROUP,
    INSTANCE,
    LAYER,
    close,
    compare,
    draw,
    parameter_shape,
    run,
)

from minigrad import Tensor, grad, kernels, layers, ops
from minigrad.backend import cuda_problem

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())]


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float16, 6e-3)], ids=["float32", "float16"])
@pytest.mark.parametrize("shape", BATCH, ids=str)
def test_batch_norm(shape, dtype, tolerance, parameters):
    compare("batch", None, draw(shape, shape[1]), "cuda", dtype, parameters, tolerance)


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-5), (np.float16, 6e-3)], ids=["float32", "float16"])
@pytest.mark.parametrize(("shape", "axes"), LAYER, ids=str)
def test_layer_norm(shape, axes, dtype, tolerance, parameters):
    inner = shape[len(shape) - axes :]
    compare("layer", inner, draw(shape, inner), "cuda", dtype, parameters, tolerance)


@pytest.mark.parametrize("parameters", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-5), (np.float16, 6e-3)], ids=["float32", "float16"])
@pytest.mark.parametrize(("kind", "shape", "inner"), [
    *(("group", *case) for case in GROUP), *(("instance", shape, None) for shape in INSTANCE),
    *(("rms", shape, shape[-1]) for shape, axes in LAYER if axes == 1),
    *((kind, shape, None) for kind in ("evaluated", "relu", "sigmoid", "residual relu", "residual sigmoid")
      for shape in ((60, 100), (300, 33), (64, 16, 28, 28), (8, 3, 7, 9), (33, 130, 6, 6), (16, 4, 5)))], ids=str)
def test_the_family(kind, shape, inner, dtype, tolerance, parameters):
    compare(kind, inner, draw(shape, parameter_shape(kind, shape, inner)), "cuda", dtype, parameters, tolerance)


@pytest.mark.parametrize("fused", [True, False])
def test_sequential_joins_what_follows_batch_norm(fused):
    """With and without an observer that looks on, against the CPU; ``edge`` tells the operations."""
    body = layers.Sequential(layers.BatchNorm2d(3), layers.ReLU(), layers.BatchNorm2d(3))
    x, z = (a.astype(np.float32) for a in draw((6, 3, 4, 5), (6, 3, 4, 5))[:2])
    if not fused:
        body[2].register_forward_hook(lambda module, inputs, output: None)
    wanted = body(Tensor(x), residual=Tensor(z), activation="relu").numpy()
    there = body.to(device="cuda")
    found = there(Tensor(x, True, device="cuda"), residual=Tensor(z, device="cuda"), activation="relu")
    assert found.edge.op.name == ("ResidualBatchNorm" if fused else "ReLU")
    close(found.numpy(), wanted, 2e-5)


@pytest.mark.parametrize("shape", [(65536, 4), (64, 4, 32, 32), (512, 2, 64, 64)], ids=str)
def test_numerics(shape):
    rng = np.random.default_rng(0)
    axes = (0, *range(2, len(shape)))
    for x, tolerance in ((rng.standard_normal(shape) + 1e4, 1e-3), (rng.standard_normal(shape) * 1e30, 1e-5)):
        x = x.astype(np.float32)
        wide = x.astype(np.float64)
        wanted = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
        got = ops.batch_norm(Tensor(x, device="cuda"))[0].numpy()
        assert np.abs(got - wanted).max() < tolerance * max(1, np.abs(wanted).max() * (tolerance < 1e-4))
    for constant in (0.1, 1e7, 1e10):
        t = Tensor(np.full(shape, constant, np.float32), True, device="cuda")
        bias = Tensor(np.linspace(-1, 1, shape[1]).astype(np.float32), device="cuda")
        weight = Tensor(np.ones(shape[1], np.float32), True, device="cuda")
        y = ops.batch_norm(t, weight, bias)[0]
        assert np.array_equal(y.numpy(), np.broadcast_to(bias.numpy().reshape(1, -1, *[1] * (len(shape) - 2)), shape))
        gx, gw = grad(y, (t, weight), Tensor(rng.standard_normal(shape).astype(np.float32), device="cuda"))
        assert np.isfinite(gx.numpy()).all()
        assert not gw.numpy().any()


@pytest.mark.parametrize("scale", [1e30, 1e-15])
@pytest.mark.parametrize("kind", ["batch", "layer", "rms", "group", "relu"])
def test_gradients_of_huge_and_tiny_values(kind, scale):
    """γ and β of 2¹⁵, as under a loss scale."""
    shape, inner = ((40, 512), 512) if kind in ("layer", "rms") else ((256, 4, 16, 16), 2)
    arrays = draw(shape, parameter_shape(kind, shape, inner), mean=0.5)
    arrays[0] = (arrays[0] * scale).astype(np.float32)
    arrays[1] = arrays[1] * 2**15
    arrays[2] = np.zeros_like(arrays[2])
    with kernels.disabled():
        wanted = run(kind, inner, [a.astype(np.float32).astype(np.float64) for a in arrays], "cpu", np.float64, True)
    got = run(kind, inner, arrays, "cuda", np.float32, True)
    for place in (0, *range(-2 if kind == "rms" else -3, 0)):  # y and the gradients; the variance is beyond float32
        assert np.abs(got[place] - wanted[place]).max() <= 1e-5 * np.abs(wanted[place]).max()


@pytest.mark.parametrize("needs", [(True, False, False), (True, True, False), (False, True, True), (True, False, True)],
                         ids=str)
@pytest.mark.parametrize(("kind", "shape", "inner"), [("batch", (12, 8), None), ("layer", (12, 8), 8),
                                                      ("group", (4, 6, 5), 2), ("evaluated", (4, 3, 6), None)], ids=str)
def test_only_what_is_needed_is_given(kind, shape, inner, needs):
    arrays = draw(shape, parameter_shape(kind, shape, inner))
    results = {}
    for device, dtype in (("cpu", np.float64), ("cuda", np.float32)):
        x, w, b = (Tensor(a.astype(dtype), need, device=device) for a, need in zip(arrays, needs))
        y = FUNCTIONS[kind](inner, x, w, b)[0]
        g = Tensor(np.random.default_rng(9).standard_normal(shape).astype(dtype), device=device)
        results[device] = [t.numpy() for t in grad(y, [t for t in (x, w, b) if t.requires_grad], g)]
    for a, b in zip(results["cuda"], results["cpu"]):
        close(a, b, 2e-5)


def test_kernels_decline_what_they_cannot_take():
    x = np.random.default_rng(0).standard_normal((6, 4, 5, 5)).astype(np.float32)
    for view in (lambda t: t[:, ::2], lambda t: t.swapaxes(2, 3), lambda t: t[1:, :, 1:]):
        here, there = (ops.batch_norm(view(Tensor(x, device=d)))[0].numpy() for d in ("cpu", "cuda"))
        close(there.astype(np.float64), here.astype(np.float64), 2e-5)


@pytest.mark.parametrize(("kind", "shape", "inner"), [("batch", (64, 32, 20, 20), None), ("batch", (4096, 40), None),
                                                      ("layer", (600, 1024), 1024), ("group", (8, 32, 20, 20), 4),
                                                      ("residual relu", (64, 32, 20, 20), None)], ids=str)
def test_repeated_runs_give_the_same_bits(kind, shape, inner):
    arrays = draw(shape, parameter_shape(kind, shape, inner))
    runs = [run(kind, inner, arrays, "cuda", np.float32, True) for _ in range(20)]
    assert all(np.array_equal(a, b) for other in runs[1:] for a, b in zip(other, runs[0]))


def test_the_text_is_there_without_kernels():
    arrays = draw((16, 4, 5), 4)
    with kernels.disabled():
        text = run("batch", None, arrays, "cuda", np.float32, True)
    for a, b in zip(run("batch", None, arrays, "cuda", np.float32, True), text):
        close(a, b, 2e-5)
