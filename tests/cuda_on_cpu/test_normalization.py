"""The normalizations' CUDA kernels, run on the CPU: against the texts in float64, in every layout."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from normalization_kernels import FUNCTIONS, close, compare, draw, parameter_shape, run

from minigrad import Tensor, grad, kernels, layers, ops
from minigrad.kernels.cuda import normalization
from minigrad.kernels.cuda import normalization_plans as plans
from minigrad.kernels.cuda.normalization_plans import Gpu
from minigrad.ops.normalization_texts import BatchNorm, GroupNorm, LayerNorm

WIDE = Gpu(132, 232448, 8)
FEW = Gpu(2, 232448, 8)  # so few multiprocessors that no set is shared
SMALL = Gpu(132, 4096 + 512, 2)  # so little shared memory that nothing is kept
ALONE = Gpu(132, 232448, 1)  # without clusters


@pytest.fixture
def launched(cupy, monkeypatch):
    """(name, macros and grid) of every kernel that is launched."""
    names, get = [], normalization.kernel

    def recorded(file, name, shared=0, **macros):
        def run(grid, *rest, **sizes):
            names.append((name, {**macros, "grid": grid[0]}))
            return found(grid, *rest, **sizes)

        found = get(file, name, shared, **macros)
        return run

    monkeypatch.setattr(normalization, "kernel", recorded)
    return names


CHANNELS, COLUMNS = "forward_staged backward_staged", "column_forward column_backward"
ROWS = "row_forward row_backward sum_of_columns"
GROUPED, AFFINE = "forward_staged grouped_backward_staged sum_of_columns", "affine affine_backward sum_of_columns"
#: kind, shape, inner, device, dtype, the kernels that have to run, and macros that the first of them has to have
CASES = [
    ("batch", (12, 3, 4, 5), None, WIDE, "float32", CHANNELS, {"BLOCKS": 8, "VEC": 4}),
    ("batch", (2, 3, 2, 1, 7), None, WIDE, "float32", CHANNELS, {"VEC": 2}),
    ("batch", (5, 3, 7, 9), None, FEW, "float32", CHANNELS, {"BLOCKS": 1, "VEC": 1}),
    ("batch", (40, 2, 8, 12), None, SMALL, "float32", CHANNELS.replace("staged", "reread"), {"BLOCKS": 2}),
    ("batch", (6, 3, 16), None, WIDE, "float16", CHANNELS, {"VEC": 8}),
    ("batch", (9, 3, 12), None, FEW, "float16", CHANNELS, {"VEC": 4}),
    ("batch", (300, 35), None, FEW, "float32", COLUMNS, {"BLOCKS": 1, "THREADS": 512}),
    ("batch", (1100, 3), None, WIDE, "float16", COLUMNS, {"BLOCKS": 4}),
    ("batch", (1, 2, 9, 9), None, ALONE, "float32", CHANNELS, {"BLOCKS": 1}),
    ("relu", (12, 3, 4, 5), None, WIDE, "float32", CHANNELS, {"ACTIVATION": 1}),
    ("relu", (40, 2, 8, 12), None, SMALL, "float32", CHANNELS.replace("staged", "reread"), {"ACTIVATION": 1}),
    ("relu", (20, 35), None, FEW, "float32", COLUMNS, {"ACTIVATION": 1}),
    ("sigmoid", (12, 3, 4, 5), None, WIDE, "float32", CHANNELS, {"ACTIVATION": 2}),
    ("sigmoid", (6, 3, 16), None, FEW, "float16", CHANNELS, {"ACTIVATION": 2}),
    ("sigmoid", (20, 35), None, FEW, "float32", COLUMNS, {"ACTIVATION": 2}),
    ("residual relu", (12, 3, 4, 5), None, WIDE, "float32", CHANNELS, {"ACTIVATION": 1}),
    ("residual relu", (40, 2, 8, 12), None, SMALL, "float32", CHANNELS.replace("staged", "reread"), {"ACTIVATION": 1}),
    ("residual relu", (20, 35), None, FEW, "float32", COLUMNS, {"ACTIVATION": 1}),
    ("residual sigmoid", (6, 3, 16), None, FEW, "float16", CHANNELS, {"ACTIVATION": 2}),
    ("evaluated", (5, 3, 4, 5), None, WIDE, "float32", AFFINE, {"VEC": 4}),
    ("evaluated", (5, 3, 7), None, FEW, "float16", AFFINE, {"COLUMNS": 0}),
    ("evaluated", (50, 140), None, FEW, "float32", AFFINE, {"COLUMNS": 1, "VEC": 4}),
    ("layer", (10, 64), 64, FEW, "float32", ROWS, {"EPT": 1}),
    ("layer", (9, 1500), 1500, FEW, "float32", ROWS, {"EPT": 2, "VEC": 4}),
    ("layer", (3, 7, 5), (7, 5), FEW, "float32", ROWS, {"VEC": 1}),
    ("layer", (5, 40), 40, FEW, "float16", ROWS, {"VEC": 8}),
    ("rms", (10, 64), 64, FEW, "float32", ROWS, {"CENTRED": 0}),
    ("rms", (3, 602), 602, FEW, "float16", ROWS, {"VEC": 2}),
    ("group", (4, 12), 3, FEW, "float32", GROUPED, {"BLOCKS": 1}),
    ("group", (2, 8, 6, 6), 2, FEW, "float32", GROUPED, {"VEC": 4}),
    ("group", (2, 4, 40, 7), 2, WIDE, "float32", GROUPED, {"BLOCKS": 8}),
    ("group", (2, 12, 3, 45), 2, SMALL, "float16", GROUPED.replace("staged", "reread"), {"BLOCKS": 2}),
    ("instance", (3, 5, 8, 8), None, FEW, "float32", GROUPED, {"VEC": 4}),
    ("instance", (1, 2, 35, 65), None, WIDE, "float32", GROUPED, {"VEC": 1}),
    ("instance", (2, 3, 2, 3, 4), None, FEW, "float32", GROUPED, {"VEC": 4}),
]


@pytest.mark.parametrize(("kind", "shape", "inner", "gpu", "dtype", "names", "macros"), CASES, ids=str)
def test_kernels_against_texts(launched, monkeypatch, kind, shape, inner, gpu, dtype, names, macros):
    monkeypatch.setattr(normalization, "_gpu", lambda x: gpu)
    arrays = draw(shape, parameter_shape(kind, shape, inner))
    compare(kind, inner, arrays, "cuda", np.dtype(dtype), True, 3e-5 if dtype == "float32" else 6e-3)
    assert [name for name, _ in launched] == names.split()
    assert macros.items() <= launched[0][1].items(), launched[0][1]
    compare(kind, inner, arrays, "cuda", np.dtype(dtype), False, 3e-5 if dtype == "float32" else 6e-3)


@pytest.mark.parametrize(("kind", "shape", "inner", "blocks", "clusters"), [
    ("residual relu", (16, 13, 4, 16), None, 4, 4),
    ("group", (2, 12, 4, 60), 6, 2, 6), ("instance", (9, 4, 60), None, 1, 18)], ids=str)
def test_clusters_that_take_several_sets(launched, monkeypatch, kind, shape, inner, blocks, clusters):
    """While they write for one set they fill shared memory for the next."""
    monkeypatch.setattr(normalization, "_gpu", lambda x: Gpu(1, 21000, 8))
    monkeypatch.setattr(plans, "COMFORTABLE", 1024)
    compare(kind, inner, draw(shape, shape[1]), "cuda", np.dtype(np.float32), True, 3e-5)
    assert (launched[0][1]["BLOCKS"], launched[0][1]["grid"]) == (blocks, blocks * clusters)


# ------------------------------------------------------------------ numbers that are hard

HARD = {"channel": ("batch", (64, 1, 32, 32), WIDE, True), "column": ("batch", (65536, 1), WIDE, False),
        "reread": ("batch", (64, 1, 32, 32), SMALL, False), "group": ("group", (1, 4, 128, 128), WIDE, False),
        "row": ("layer", (4, 4096), FEW, True)}


def normalized(x):
    """(x − μ)·r by the definition, in the dtype of x, over all its elements or over each row of a matrix."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize(("kind", "shape", "gpu", "half"), HARD.values(), ids=HARD)
def test_large_means_and_huge_values(cupy, monkeypatch, kind, shape, gpu, half):
    """Mean 1e4 within 1e-3; |x| ~ 1e30 and float16 of scale 300 as their last place allows; constants exactly."""
    monkeypatch.setattr(normalization, "_gpu", lambda x: gpu)
    sets = shape if kind == "layer" else (1, -1)
    inner = shape[-1] if kind == "layer" else 1
    size = parameter_shape(kind, shape, inner)
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal(shape)
    hard = [(drawn + 1e4, np.float32, 1e-3), (drawn * 1e30, np.float32, 1e-5), (drawn * 1e-15, np.float32, 1e-5)]
    if half:
        hard.append((drawn * 300, np.float16, 5e-3))
    for x, dtype, tolerance in hard:
        x = x.astype(dtype)
        wanted = normalized(x.astype(np.float64).reshape(sets)).reshape(shape)
        got = FUNCTIONS[kind](inner, Tensor(x, device="cuda"), None, None)[0].numpy()
        assert np.abs(got - wanted).max() < tolerance * max(1e-8, np.abs(wanted).max())
    bias = rng.standard_normal(size).astype(np.float32)
    weight = np.ones(size, np.float32)
    beta = bias if kind == "layer" else bias.reshape(-1, *[1] * (len(shape) - 2))
    for constant in (0.1, 1e7, 1e10, 1e30):
        x = Tensor(np.full(shape, constant, np.float32), True, device="cuda")
        w, b = (Tensor(a, True, device="cuda") for a in (weight, bias))
        y = FUNCTIONS[kind](inner, x, w, b)[0]
        assert np.array_equal(y.numpy(), np.broadcast_to(beta, shape))
        gx, gw = grad(y, (x, w), Tensor(drawn.astype(np.float32), device="cuda"))
        assert np.isfinite(gx.numpy()).all()
        assert not gw.numpy().any()


@pytest.mark.parametrize("scale", [1e30, 1e-15])
@pytest.mark.parametrize(("kind", "shape", "gpu"), [("batch", (40, 2, 8, 12), WIDE), ("batch", (40, 2, 8, 12), SMALL),
                                                    ("batch", (60, 5), FEW), ("layer", (10, 64), FEW),
                                                    ("rms", (10, 64), FEW), ("group", (2, 8, 6, 6), FEW),
                                                    ("relu", (12, 3, 4, 5), WIDE)], ids=str)
def test_gradients_of_huge_and_tiny_values_under_a_loss_scale(cupy, monkeypatch, kind, shape, gpu, scale):
    """γ and gy of 2¹⁵ besides: sums of gy·(x − μ) would not fit float32."""
    monkeypatch.setattr(normalization, "_gpu", lambda x: gpu)
    inner = {"layer": 64, "rms": 64, "group": 2}.get(kind)
    arrays = draw(shape, parameter_shape(kind, shape, inner), mean=0.5)
    arrays[0], arrays[1] = (arrays[0] * scale).astype(np.float32), arrays[1] * 2**15
    arrays[2] = np.zeros_like(arrays[2])
    with kernels.disabled():
        wanted = run(kind, inner, [a.astype(np.float32).astype(np.float64) for a in arrays], "cpu", np.float64, True)
    got = run(kind, inner, arrays, "cuda", np.float32, True)
    last = -2 if kind == "rms" else -3
    for place in (0, *range(last, 0)):  # y and the gradients; the variance is beyond float32
        assert np.abs(got[place] - wanted[place]).max() <= 2e-5 * np.abs(wanted[place]).max(), place


@pytest.mark.parametrize("shape", [(6, 3, 4, 5), (20, 5)], ids=str)
@pytest.mark.parametrize("kind", ["batch", "relu", "sigmoid"])
def test_bad_numbers_stay_in_their_channel(launched, kind, shape):
    arrays = [a.astype(np.float32) for a in draw(shape, shape[1])]
    arrays[0][(1, 2, *[0] * (len(shape) - 2))] = np.nan
    found = run(kind, None, arrays, "cuda", np.float32, True)
    assert len(launched) == 2
    with kernels.disabled():
        text = run(kind, None, arrays, "cpu", np.float32, True)
    for a, b in zip(found, text):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert not np.isnan(a).all()
    for a in found[:-1]:  # all but β's gradient
        assert np.isnan(a).any()


# ------------------------------------------------------------------ calls


@pytest.mark.parametrize("needs", [(True, False, False), (True, True, False), (False, True, True), (True, False, True),
                                   (False, False, True)], ids=str)
@pytest.mark.parametrize(("kind", "shape", "inner"), [("batch", (12, 8), None), ("batch", (4, 3, 6), None),
                                                      ("layer", (12, 8), 8), ("group", (4, 12), 3),
                                                      ("evaluated", (4, 3, 8), None)], ids=str)
def test_only_what_is_needed_is_given(cupy, kind, shape, inner, needs):
    arrays, results = draw(shape, parameter_shape(kind, shape, inner)), {}
    for device, dtype in (("cpu", np.float64), ("cuda", np.float32)):
        tensors = [Tensor(a.astype(dtype), need, device=device) for a, need in zip(arrays, needs)]
        y = FUNCTIONS[kind](inner, *tensors)[0]
        g = Tensor(np.random.default_rng(9).standard_normal(shape).astype(dtype), device=device)
        results[device] = [t.numpy() for t in grad(y, [t for t in tensors if t.requires_grad], g)]
    for a, b in zip(results["cuda"], results["cpu"]):
        close(a, b, 3e-5)


@pytest.mark.parametrize("what", ["strided", "transposed", "float64", "half parameters", "a gradient of the mean",
                                  "a mask", "rows that are too long"])
def test_calls_that_are_declined(launched, what):
    """Nothing is launched, and the text gives what it gives on the CPU."""
    x, w, b = (a.astype(np.float64 if what == "float64" else np.float32) for a in draw((6, 4, 8), 8))
    results = []
    for device in ("cpu", "cuda"):
        t, weight, bias = (Tensor(a, device=device) for a in (x, w, b))
        if what == "strided":
            found = ops.batch_norm(t[:, ::2])[0]
        elif what == "transposed":
            found = ops.layer_norm(t.swapaxes(1, 2), 4)
        elif what == "float64":
            found = ops.layer_norm(t, 8, weight, bias)
        elif what == "half parameters":
            found = ops.layer_norm(t, 8, weight.astype(np.float16), bias.astype(np.float16))
        elif what == "a mask":
            found = ops.layer_norm(t, 8, weight, bias, mask=Tensor(x[..., 0] > 3, device=device))
        elif what == "rows that are too long":
            found = ops.rms_norm(Tensor(np.tile(x[0, 0], 5000)[None], device=device), 40000)
        else:
            t = Tensor(x, True, device=device)
            y, mean, _, _ = ops.batch_norm(t)
            launched.clear()
            (found,) = grad(y.sum() + (mean * mean).sum(), (t,))
        results.append(found.numpy())
    assert not launched
    close(results[1].astype(np.float64), results[0].astype(np.float64), 1e-5)


def test_a_gradient_that_was_spread_is_copied(launched):
    results = []
    for device in ("cpu", "cuda"):
        x = Tensor(draw((6, 3, 4, 5), 3)[0].astype(np.float32), True, device=device)
        y = ops.batch_norm(x, activation="relu")[0]
        results.append(grad(y.mean(axis=(2, 3)).sum(), (x,))[0].numpy())
    assert [name for name, _ in launched] == ["forward_staged", "backward_staged"]
    close(results[1], results[0], 3e-5)


def test_sequential_joins_batch_norm_and_activation(launched):
    """As on the CPU: one kernel for both, in training; their gradients and running statistics are those of two."""
    found = []
    for fused in (True, False):
        net = layers.Sequential(layers.BatchNorm2d(3), layers.ReLU(), layers.BatchNorm2d(3)).to(device="cuda")
        x = Tensor(draw((6, 3, 4, 5), 3)[0].astype(np.float32), True, device="cuda")
        launched.clear()
        y = net(x) if fused else net[2](net[1](net[0](x)))
        assert [macros["ACTIVATION"] for _, macros in launched] == ([1, 0] if fused else [0, 0])
        found.append([y, *grad((y * y * y).sum(), [x, *net.parameters()]), *net.buffers()])
    for a, b in zip(*found):
        close(a.numpy(), b.numpy(), 1e-5)


def test_residual_blocks_are_joined(launched):
    """BatchNorm, the sum and the activation by one kernel, whose results and gradients are those of three."""
    found = []
    for fused in (True, False):
        body = layers.Sequential(layers.BatchNorm2d(3)).to(device="cuda")
        x, z = (Tensor(a.astype(np.float32), True, device="cuda") for a in draw((6, 3, 4, 5), (6, 3, 4, 5))[:2])
        launched.clear()
        y = body(x, residual=z, activation="relu") if fused else ops.relu(body(x) + z)
        assert [macros["ACTIVATION"] for _, macros in launched] == [int(fused)]
        found.append([y, *grad((y * y * y).sum(), [x, z, *body.parameters()]), *body.buffers()])
    for a, b in zip(*found):
        close(a.numpy(), b.numpy(), 1e-5)


# ------------------------------------------------------------------ plans


def test_plans_ask_only_for_known_combinations():
    """Shapes at random: what plans ask for is among `every_combination`, and within a block's limits."""
    known = {(file, *sorted(macros.items())) for file, macros in plans.every_combination()}
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(1500):
        shape = tuple(int(2 ** rng.uniform(0, 9)) for _ in range(rng.integers(2, 5)))
        dtype = rng.choice(["float32", "float16", "bfloat16"])
        gpu = (WIDE, FEW, SMALL, ALONE)[rng.integers(4)]
        size, arrays = 4 if dtype == "float32" else 2, int(rng.integers(1, 3))
        array = SimpleNamespace(itemsize=size, data=SimpleNamespace(ptr=int(rng.choice([16, 8, 4, 2])) * size))
        batch = plans.view(BatchNorm, (0, *range(2, len(shape))), shape)
        asked = [plans.sums(shape[-1]), *(plans.affine(batch, dtype, wide, reducing, gpu) for reducing, wide in (
            (False, plans.width(shape[1] if batch.layout == "column" else batch.places, array)),
            (True, 1 if batch.layout == "column" else plans.width(batch.places, array))))]
        for activation in plans.ACTIVATIONS:
            asked.append(plans.column(batch, dtype, activation, gpu) if batch.layout == "column" else plans.segmented(
                batch, dtype, plans.width(batch.places, array), arrays, activation, gpu))
        if len(shape) > 2:
            group = plans.view(GroupNorm, tuple(range(2, len(shape))), shape)
            asked.append(plans.segmented(group, dtype, plans.width(group.places, array), arrays, "", gpu))
        rows = plans.view(LayerNorm, (len(shape) - 1,), (*shape[:-1], shape[-1] * shape[0]))
        asked.append(plans.row(rows, dtype, plans.width(rows.channels, array), arrays, bool(arrays - 1), gpu))
        for plan in asked:
            if plan is None:
                continue
            assert (plan.file, *sorted(plan.macros.items())) in known, plan
            assert math.prod(plan.block) == plan.macros["THREADS"] <= 1024
            assert plan.shared <= gpu.shared
            assert plan.grid[0] % plan.macros.get("BLOCKS", 1) == 0
            seen.add(plan.file)
    assert seen == {file for file, _ in plans.every_combination()}


def test_pairs_of_macros():
    """Few combinations, in which every pair of macros that may occur together does."""
    few = plans.combinations()
    assert len(few) < 150

    def of(combinations):
        return {(file, pair) for file, macros in combinations
                for pair in itertools.combinations(sorted(macros.items()), 2)}

    assert of(few) == of(plans.every_combination())
