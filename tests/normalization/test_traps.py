"""Faults that normalizations have had, in many frameworks: one numbered test each, for every member it concerns.

Numbers that are missing: 31 (export to ONNX) and 33 (ghost batches) concern what is not here, 35 (batches that are not
independent) concerns samplers.
"""

import gc
import tracemalloc

import numpy as np
import pytest
import references as ref
from cases import relative

import minigrad as mg
from minigrad import Tensor, functional, layers, ops
from minigrad.errors import ArgumentError, GraphError, ShapeError, StateError
from minigrad.gradcheck import check_gradients
from minigrad.optim import parameter_groups

RNG = np.random.default_rng(0)
EPS = 1e-5
# Every member as a function of x (N, C, L) alone; what has parameters has none here.
MEMBERS = {
    "batch": lambda x: ops.batch_norm(x)[0],
    "layer": lambda x: ops.layer_norm(x, tuple(x.shape[1:])),
    "group": lambda x: ops.group_norm(x, 2),
    "instance": lambda x: ops.instance_norm(x)[0],
    "rms": lambda x: ops.rms_norm(x, tuple(x.shape[1:]), None, EPS),
    "local response": lambda x: ops.local_response_norm(x, 3, 0.5),
}
CENTRED = ("batch", "layer", "group", "instance")
member = pytest.mark.parametrize("name", MEMBERS)
centred = pytest.mark.parametrize("name", CENTRED)


def both(function, x, gy=None):
    """y and gx, in the dtype of x."""
    leaf = Tensor(x, requires_grad=True)
    y = function(leaf)
    gy = np.random.default_rng(9).normal(size=x.shape) if gy is None else gy
    return y.numpy(), mg.grad(y, leaf, np.asarray(gy, y.dtype))[0].numpy()


def statistics(norm):
    return [b.numpy().copy() for b in norm.buffers()]


def assert_same(found, wanted):
    for f, w in zip(found, wanted):
        np.testing.assert_array_equal(f, w)


def test_01_one_value_per_channel_is_an_error_that_helps():
    for norm, shape in ((layers.BatchNorm1d(3), (1, 3)), (layers.BatchNorm3d(3), (1, 3, 1, 1, 1)),
                        (layers.InstanceNorm1d(3), (4, 3, 1)), (layers.InstanceNorm2d(3), (4, 3, 1, 1)),
                        (layers.InstanceNorm3d(3, track_running_stats=True), (3, 1, 1, 1))):
        remedy = "drop_last" if isinstance(norm, layers.BatchNorm) else "of an example.*use layer_norm"
        with pytest.raises(ValueError, match=rf"in layer \({type(norm).__name__}\).*more than one value.*{remedy}"):
            norm(Tensor(np.ones(shape, np.float32)))
        if norm.track_running_stats:
            assert norm.eval()(Tensor(np.ones(shape, np.float32))).shape == shape
    assert layers.BatchNorm2d(3)(Tensor(np.ones((1, 3, 2, 1), np.float32))).shape == (1, 3, 2, 1)
    # The others follow torch: LayerNorm of one value gives β, GroupNorm refuses if the whole batch has one per group.
    np.testing.assert_array_equal(ops.layer_norm(np.ones((2, 1)), 1), np.zeros((2, 1)))
    np.testing.assert_array_equal(ops.group_norm(np.ones((2, 3)), 3), np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"more than one value per group.*fewer groups"):
        ops.group_norm(np.ones((1, 3)), 3)


@pytest.mark.parametrize("m", [2, 4])
def test_02_and_11_the_running_variance_is_unbiased(m):
    for norm, x in ((layers.BatchNorm1d(1, momentum=1.0), RNG.normal(size=(m, 1))),
                    (layers.InstanceNorm1d(1, momentum=1.0, track_running_stats=True), RNG.normal(size=(1, 1, m)))):
        norm.to("float64")(Tensor(x))
        np.testing.assert_allclose(norm.running_var.numpy(), [x.var() * m / (m - 1)], rtol=1e-14)


@centred
def test_03_cancellation(name):
    """float32, mean 1e4: x̂ within 1e-3 of float64."""
    shape = {"batch": (65536, 2, 1), "instance": (1, 2, 65536)}.get(name, (2, 4, 16384))
    x = (RNG.normal(size=shape) + 1e4).astype(np.float32)
    found, wanted = both(MEMBERS[name], x), both(MEMBERS[name], x.astype(np.float64))
    assert np.abs(found[0] - wanted[0]).max() <= 1e-3
    assert relative(found[1], wanted[1]) <= 1e-3


def test_03_cancellation_in_images():
    x = (RNG.normal(size=(16, 4, 32, 32)) + 3e3).astype(np.float32)
    for name in ("batch", "group", "instance"):
        function = MEMBERS[name]
        assert np.abs(function(x) - function(x.astype(np.float64))).max() <= 1e-3


@pytest.mark.parametrize("mean", [0.0, 1.0, 1e3, 1e6])
def test_03_the_running_variance_is_never_negative_and_right_for_quiet_channels(mean):
    """Variance 1e-10 at mean 0 within 1e-3; at larger means what float32 input itself can still say."""
    x = (mean + RNG.normal(size=(4096, 3)) * 1e-5).astype(np.float32)
    norm = layers.BatchNorm1d(3, momentum=1.0)
    for _ in range(3):
        norm(Tensor(x))
        assert (norm.running_var.numpy() >= 0).all()
    true = x.astype(np.float64).var(0, ddof=1)
    assert np.abs(norm.running_var.numpy() - true).max() <= 1e-3 * max(true.max(), 1e-30)
    if mean == 0:
        assert np.abs(true - 1e-10).max() < 1e-11


@pytest.mark.parametrize("constant", [0.1, 1e7, 1e10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@centred
def test_04_constant_sets_give_exactly_beta(name, dtype, constant):
    shape = (100, 4, 30) if name == "batch" else (3, 4, 1000)
    y, gx = both(MEMBERS[name], np.full(shape, constant, dtype))
    np.testing.assert_array_equal(y, np.zeros(shape))
    assert np.isfinite(gx).all()
    x, w, b = np.full((50, 2), constant, dtype), np.ones(2, dtype), np.array([0.3, -2], dtype)
    leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    y = ops.batch_norm(*leaves, mask=RNG.random(50) > 0.3)[0]
    assert set(y.numpy()[:, 0].tolist()) <= {0.0, b[0].item()}
    np.testing.assert_array_equal(mg.grad(y, leaves[1], np.ones((50, 2), dtype))[0].numpy(), np.zeros(2))


@pytest.mark.parametrize("scale", [1e19, 1e30, 1e37])
@member
def test_05_huge_values(name, scale):
    """Their squares overflow float32."""
    x = (RNG.normal(size=(6, 4, 5)) * scale).astype(np.float32)
    found, wanted = both(MEMBERS[name], x), both(MEMBERS[name], x.astype(np.float64))
    for f, w in zip(found, wanted):
        assert np.isfinite(f).all()
        assert relative(f, w) <= 1e-5 or np.abs(w).max() < 1e-38  # below what float32 can hold


@member
def test_06_epsilon_is_under_the_root(name):
    x = np.zeros((4, 4, 3))
    _, gx = both(MEMBERS[name], x)
    assert np.abs(gx).max() <= 8 / np.sqrt(EPS)
    y = ops.rms_norm(np.full((1, 4), 2e-3), 4, None, 1e-5)
    np.testing.assert_allclose(y, 2e-3 / np.sqrt(4e-6 + 1e-5), rtol=1e-13)
    v = RNG.normal(size=(5, 4, 3))
    assert relative(ops.instance_norm(v, eps=0.0)[0], ref.instance_norm(v, eps=0.0)[0]) <= 1e-12


@pytest.mark.parametrize("norm", [layers.BatchNorm1d(2), layers.InstanceNorm1d(2, track_running_stats=True)])
def test_07_what_is_not_finite_is_never_stored(norm):
    norm(Tensor(np.float32(RNG.normal(size=(3, 2, 4)))))
    before = statistics(norm)
    x = RNG.normal(size=(3, 2, 4)).astype(np.float32)
    x[0, 1, 2] = np.nan
    with pytest.warns(RuntimeWarning, match="channels 1"):
        norm(Tensor(x))
    assert_same(statistics(norm), before)
    assert norm.dropped_updates == 1
    norm.nonfinite = "raise"
    with pytest.raises(StateError, match="channels 1"):
        norm(Tensor(x))
    assert_same(statistics(norm), before)


@member
def test_08_half_precision(name):
    """300² is infinite in float16: statistics and gradients are taken in float32."""
    x = (300 * RNG.normal(size=(8, 4, 16))).astype(np.float16)
    found, wanted = both(MEMBERS[name], x), both(MEMBERS[name], x.astype(np.float64))
    assert found[0].dtype == found[1].dtype == np.float16
    for f, w in zip(found, wanted):
        assert np.isfinite(f).all()
        assert np.abs(f - w).max() <= 5e-3 * max(1.0, np.abs(w).max())
    # Without overflow, too: the mean and variance of values around 10 are right beyond what float16 could hold.
    near = (10 + RNG.normal(size=(256, 4, 16))).astype(np.float16)
    for values in (ops.batch_norm, ops.instance_norm, lambda v: ops.batch_norm(v, mask=np.ones((256, 16), bool))):
        for half, wide in zip(values(near)[1:], values(near.astype(np.float64))[1:]):
            assert half.dtype == np.float32
            assert relative(half, wide) <= 1e-5
    norm = layers.BatchNorm1d(4, momentum=1.0).to("float16")
    norm(Tensor(x))
    assert norm.running_var.dtype == np.float32
    assert norm.running_var.numpy().max() > 65504
    again = layers.BatchNorm1d(4).to("float16")
    again.load_state_dict(norm.state_dict())
    assert_same(statistics(again), statistics(norm))


def test_09_momentum_is_the_weight_of_the_new_batch():
    norm, mean = layers.BatchNorm1d(1, momentum=layers.momentum_from_keras(0.99), dtype=np.float64), 0.0
    for k in range(3):
        x = RNG.normal(size=(4, 1)) + k
        norm(Tensor(x))
        mean = 0.99 * mean + 0.01 * x.mean()
    np.testing.assert_allclose(norm.running_mean.numpy(), [mean], rtol=1e-13)


def test_10_the_first_batch_with_bias_correction():
    x = RNG.normal(size=(5, 2)) + 4
    norm = layers.BatchNorm1d(2, momentum=0.01, debias=True, dtype=np.float64)
    norm(Tensor(x))
    np.testing.assert_allclose(norm.running_mean.numpy(), x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(norm.running_var.numpy(), x.var(0, ddof=1), rtol=1e-13)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("kind", [layers.BatchNorm1d, layers.InstanceNorm1d])
def test_12_every_combination_of_switches(kind, buffers, training, frozen):
    norm = kind(2, track_running_stats=buffers, dtype=np.float64).train(training)
    x = RNG.normal(size=(3, 2, 4)) + 5
    if frozen and not buffers:
        with pytest.raises(ArgumentError):
            norm.freeze()
        return
    if frozen:
        norm.freeze()
    y = norm(Tensor(x)).numpy()
    running = buffers and (frozen or not training)
    axes = (0, 2) if kind is layers.BatchNorm1d else (2,)
    own = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)
    np.testing.assert_allclose(y, x / np.sqrt(1 + EPS) if running else own, rtol=1e-11)
    if buffers:
        assert norm.num_batches_tracked.item() == int(not running)
    with pytest.raises(ArgumentError):
        norm.track_running_stats = not buffers


def test_13_updates_depend_on_the_mode_and_not_on_recording():
    norm = layers.BatchNorm1d(2)
    x = Tensor(RNG.normal(size=(4, 2)))
    with mg.no_grad():
        norm(x)
        assert norm.num_batches_tracked.item() == 1
        with layers.frozen_statistics():
            norm(x)
    assert norm.num_batches_tracked.item() == 1


def test_14_recomputation_updates_once():
    def trained(call):
        mg.manual_seed(0)
        model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4), layers.Dropout(0.3), layers.Linear(4, 2))
        x = Tensor(np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32), requires_grad=True)
        for _ in range(3):
            call(model, x).sum().backward()
        return [*statistics(model), *(p.grad.numpy() for p in model.parameters())]

    assert_same(trained(mg.recompute), trained(lambda f, x: f(x)))


def test_15_accumulated_micro_batches():
    x = RNG.normal(size=(12, 3)) * 5 + 100
    whole, parts = (layers.BatchNorm1d(3) for _ in range(2))
    y = whole(Tensor(x)).numpy()
    with layers.accumulate_statistics(parts):
        ys = [parts(Tensor(x[i : i + 4])).numpy() for i in range(0, 12, 4)]
    for found, wanted in zip(statistics(parts), statistics(whole)):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert np.abs(np.concatenate(ys) - y).max() > 0.01  # the outputs are those of micro-batches


def test_16_parts_of_any_size_merge_to_the_whole():
    """Uneven and empty parts, weighted by their counts."""
    x, start, merged = RNG.normal(size=(20, 2)) + 7, 0, None
    for size in (7, 1, 0, 12):
        part = x[start : start + size]
        start += size
        nothing = np.zeros(2)
        update = layers.StatsUpdate(part.mean(0) if size else nothing, part.var(0) if size else nothing, size)
        merged = update if merged is None else merged.merged(update)
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-15)
    np.testing.assert_allclose(merged.variance, x.var(0), rtol=1e-14)


def test_17_memory_is_flat_over_gradient_penalties():
    """Double backward as WGAN-GP takes it; the orders themselves are in test_exactness."""
    model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4), layers.Tanh(), layers.LayerNorm(4),
                              layers.Linear(4, 1))
    x = RNG.normal(size=(6, 3)).astype(np.float32)

    def step():
        leaf = Tensor(x, requires_grad=True)
        (g,) = mg.grad(model(leaf).sum(), leaf, create_graph=True)
        ((g * g).sum(1) - 1).sum().backward()
        model.zero_grad()

    for _ in range(50):
        step()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            step()
        assert gc.collect() == 0  # no cycles; this also empties Python's lists of objects to use again
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 10_000  # 33 bytes a step


@centred
def test_18_the_sum_of_the_output_has_no_gradient(name):
    x = RNG.normal(size=(6, 4, 5))
    assert np.abs(both(MEMBERS[name], x, np.ones(x.shape))[1]).max() <= 1e-12


def test_19_checkpoints_without_the_number_of_batches():
    state = {n: t for n, t in layers.BatchNorm1d(2).state_dict().items() if n != "num_batches_tracked"}
    assert layers.BatchNorm1d(2).load_state_dict(state) == ([], [])
    for options in ({"momentum": None}, {"debias": True}):
        with pytest.raises(StateError, match="num_batches_tracked"):
            layers.BatchNorm1d(2, **options).load_state_dict(state)


def test_20_one_layer_in_two_calls_before_one_backward():
    norm = layers.InstanceNorm1d(2, affine=True, track_running_stats=True, dtype=np.float64)
    u, v = (Tensor(RNG.normal(size=(2, 2, 5)), requires_grad=True) for _ in range(2))
    y = norm(u) * 2
    z = norm.eval()(v)
    scale = 1 / np.sqrt(norm.running_var.numpy() + EPS)
    norm.train()(Tensor(RNG.normal(size=(2, 2, 5)) * 100))  # buffers are rebound after z has used them
    gy = RNG.normal(size=(2, 2, 5))
    (y * gy + z).sum().backward()
    np.testing.assert_allclose(v.grad.numpy(), np.broadcast_to(scale[:, None], (2, 2, 5)), rtol=1e-13)
    alone = both(lambda x: ops.instance_norm(x)[0], u.numpy(), 2 * gy)[1]
    np.testing.assert_allclose(u.grad.numpy(), alone, rtol=1e-10, atol=1e-13)


@member
def test_21_no_input_is_modified(name):
    x = RNG.normal(size=(3, 4, 5))
    x.flags.writeable = False  # a write would raise
    copy = x.copy()
    leaf = Tensor(x, requires_grad=True)
    (MEMBERS[name](leaf) * copy).sum().backward(create_graph=True)
    np.testing.assert_array_equal(x, copy)
    shared = np.ones(4)  # one array for everything that has this shape
    y = functional.batch_norm(x, shared, shared, shared, shared, training=True)
    np.testing.assert_array_equal(shared, np.ones(4))
    np.testing.assert_allclose(y, ref.batch_norm(x)[0] + 1, rtol=1e-12)


def test_22_a_frozen_layer_stays_frozen():
    model = layers.Sequential(layers.BatchNorm1d(2), layers.Linear(2, 2), layers.BatchNorm1d(2))
    layers.freeze(model)
    before = statistics(model)
    x = Tensor(RNG.normal(size=(5, 2)).astype(np.float32))
    y = model.train()(x).numpy()
    assert_same(statistics(model), before)
    np.testing.assert_array_equal(y, model.eval()(x).numpy())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True, False, False]


def test_23_no_weight_decay_on_any_member():
    norms = [layers.BatchNorm3d(2), layers.InstanceNorm2d(2, affine=True), layers.GroupNorm(1, 2),
             layers.LayerNorm((2, 3)), layers.RMSNorm((2, 3))]
    model = layers.Sequential(layers.Linear(2, 2), *norms)
    groups = {g["name"]: g["param_names"] for g in parameter_groups(model, 0.1)}
    assert groups["decay"] == ["0.weight"]
    assert len(groups["no decay"]) == 1 + 2 * 4 + 1


def test_24_a_weight_of_zero_gets_its_gradient():
    x, gy = RNG.normal(size=(3, 4, 5)), RNG.normal(size=(3, 4, 5))
    zero, b = np.zeros(4), np.zeros(4)
    for function, xhat in ((lambda x, w, b: ops.batch_norm(x, w, b)[0], ref.batch_norm(x)[0]),
                           (lambda x, w, b: ops.group_norm(x, 2, w, b), ref.group_norm(x, 2)),
                           (lambda x, w, b: ops.instance_norm(x, w, b)[0], ref.instance_norm(x)[0])):
        leaves = [Tensor(a, requires_grad=True) for a in (x, zero, b)]
        gx, gw, _ = mg.grad(function(*leaves), leaves, gy)
        np.testing.assert_array_equal(gx.numpy(), np.zeros(x.shape))
        np.testing.assert_allclose(gw.numpy(), (gy * xhat).sum((0, 2)), rtol=1e-11)


# ------------------------------------------------------------------ 25: padding


LENGTHS = np.array([5, 3, 1, 4])
PADDED = np.arange(5) < LENGTHS[:, None]  # (N, L), True where there is something


@pytest.mark.parametrize("junk", [0.0, 1e30, np.nan, np.inf])
@pytest.mark.parametrize("shape", [(4, 5), (4, 1, 5), (4, 3, 5)], ids=str)
def test_25_padding_of_batch_norm(shape, junk):
    """Statistics, outputs and gradients are those of the elements that count, put together without padding."""
    x = RNG.normal(size=(4, 3, 5)) * 2 + 1
    mask = np.broadcast_to(PADDED.reshape(shape) if shape != (4, 3, 5) else PADDED[:, None], shape)
    flat = np.moveaxis(x, 1, -1)[PADDED]  # (m, C)
    x[np.broadcast_to(~PADDED[:, None], x.shape)] = junk
    norm, plain = (layers.BatchNorm1d(3, dtype=np.float64) for _ in range(2))
    gy = RNG.normal(size=x.shape)
    leaf, leaf2 = Tensor(x, requires_grad=True), Tensor(flat, requires_grad=True)
    with np.errstate(invalid="ignore", over="ignore"):
        y, z = norm(leaf, mask), plain(leaf2)
        y.backward(gy)
        z.backward(np.moveaxis(gy, 1, -1)[PADDED])
        evaluated = norm.eval()(leaf, mask)
    for found, wanted in ((y, z), (leaf.grad, leaf2.grad)):
        np.testing.assert_allclose(np.moveaxis(found.numpy(), 1, -1)[PADDED], wanted.numpy(), rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(np.moveaxis(found.numpy(), 1, -1)[~PADDED], 0.0)
    np.testing.assert_allclose(norm.weight.grad.numpy(), plain.weight.grad.numpy(), rtol=1e-10)
    for found, wanted in zip(statistics(norm), statistics(plain)):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    leaf.grad = None
    evaluated.backward(gy)
    np.testing.assert_array_equal(np.moveaxis(leaf.grad.numpy(), 1, -1)[~PADDED], 0.0)
    np.testing.assert_allclose(np.moveaxis(evaluated.numpy(), 1, -1)[PADDED], plain.eval()(leaf2).numpy(), rtol=1e-9)


def test_25_masks_that_tell_channels_apart():
    x = RNG.normal(size=(5, 2))
    mask = np.array([[1, 1], [1, 1], [0, 1], [1, 0], [0, 1]], bool)
    norm = layers.BatchNorm1d(2, momentum=1.0, dtype=np.float64)
    norm(Tensor(x), mask)
    for c in range(2):
        counted = x[mask[:, c], c]
        np.testing.assert_allclose(norm.running_mean.numpy()[c], counted.mean(), rtol=1e-13)
        np.testing.assert_allclose(norm.running_var.numpy()[c], counted.var(ddof=1), rtol=1e-13)


def test_25_padding_of_layer_norm():
    x = RNG.normal(size=(4, 5, 6))
    norm = layers.LayerNorm(6, dtype=np.float64)
    for mask in (PADDED, PADDED[:, :, None]):
        leaf = Tensor(np.where(PADDED[:, :, None], x, np.nan), requires_grad=True)
        y = norm(leaf, mask)
        y.backward(np.ones(y.shape) * x)
        np.testing.assert_allclose(y.numpy()[PADDED], norm(Tensor(x)).numpy()[PADDED], rtol=1e-12)
        np.testing.assert_array_equal(y.numpy()[~PADDED], 0)
        np.testing.assert_array_equal(leaf.grad.numpy()[~PADDED], 0)
        assert np.isfinite(leaf.grad.numpy()).all()
    short = np.arange(6) < 4  # padding among the features: as if they were not there
    y = ops.layer_norm(x, 6, mask=np.broadcast_to(short, x.shape))
    np.testing.assert_allclose(y[..., :4], ref.layer_norm(x[..., :4], 1), rtol=1e-11)


def test_25_too_few_that_count():
    for mask in (np.zeros((4, 5), bool), np.eye(4, 5) * [1, 0, 0, 0, 0] > 0):
        with pytest.raises(ShapeError, match="more than one value per channel"):
            layers.BatchNorm1d(3)(Tensor(np.ones((4, 3, 5))), mask)
    with pytest.raises(ShapeError, match="mask of shape"):
        ops.batch_norm(np.ones((4, 3, 5)), mask=np.ones((4, 3), bool))
    for mask, what in ((np.ones((4, 3)), "dtype float64"), ([True] * 4, "type list")):
        with pytest.raises(TypeError, match=f"mask of {what}; wanted an array of bool"):
            ops.layer_norm(np.ones((4, 3)), 3, mask=mask)


def test_25_a_mask_counts_beyond_what_half_precision_holds():
    """Gradients of the statistics, 1/m and 2(x − μ)/m: a sum of 70,000 ones is infinite in float16."""
    x, mask = np.full((70_000, 1), 100.0, np.float16), np.arange(70_000) > 0
    x[::2] = -100
    gx = []
    for leaf in (Tensor(x, requires_grad=True), Tensor(x.astype(np.float64), requires_grad=True)):
        _, mean, variance, _ = ops.batch_norm(leaf, mask=mask)
        gx.append(mg.grad((mean.sum() + variance.sum()), leaf)[0].numpy())
    assert relative(*gx) <= 1e-3
    assert np.abs(gx[1]).max() > 1e-3


# ------------------------------------------------------------------ the rest


def test_26_a_parameter_written_between_forward_and_backward():
    for norm, shape in ((layers.GroupNorm(1, 2), (3, 2)), (layers.LayerNorm(2), (3, 2)), (layers.RMSNorm(2), (3, 2)),
                        (layers.InstanceNorm1d(2, affine=True), (3, 2, 4))):
        y = norm(Tensor(RNG.normal(size=shape), requires_grad=True))
        norm.weight.assign(2)
        with pytest.raises(GraphError, match=type(norm).__name__):
            y.sum().backward()


@pytest.mark.parametrize("shape", [(4, 5), (5,), (3, 4, 5)], ids=str)
def test_27_normalized_shapes_of_several_axes(shape):
    x, w = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=shape)
    check_gradients(lambda x, w: ops.layer_norm(x, shape, w), (x, w), 2, elements=5)
    check_gradients(lambda x, w: ops.rms_norm(x, shape, w, EPS), (x, w), 2, elements=5)


def test_28_parameter_gradients_over_a_million_rows():
    """γ and β of LayerNorm and GroupNorm gather a million terms each."""
    rows = 1_000_000
    x, gy = RNG.normal(size=(rows, 2)).astype(np.float32), np.abs(RNG.normal(size=(rows, 2))).astype(np.float32)
    w, b = np.ones(2, np.float32), np.zeros(2, np.float32)
    for function in (lambda x, w, b: ops.layer_norm(x, 2, w, b), lambda x, w, b: ops.group_norm(x, 1, w, b)):
        leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        wide = [Tensor(a.astype(np.float64), requires_grad=True) for a in (x, w, b)]
        found, wanted = mg.grad(function(*leaves), leaves, gy), mg.grad(function(*wide), wide, gy.astype(float))
        for f, w in zip(found[1:], wanted[1:]):
            assert relative(f.numpy(), w.numpy()) <= 1e-5


def test_28_sums_in_blocks_have_their_derivatives():
    """Above 4,096 rows parameter gradients are sums of sums; recorded, they are the same and may be differentiated."""
    x, gy = RNG.normal(size=(5000, 2)), RNG.normal(size=(5000, 2))
    w, b = np.ones(2), np.zeros(2)
    for function in (lambda x, w, b: ops.layer_norm(x, 2, w, b), lambda x, w, b: ops.batch_norm(x, w, b)[0]):
        leaves = [Tensor(a, requires_grad=True) for a in (x, w, b)]
        y = function(*leaves)
        recorded = mg.grad(y, leaves, gy, create_graph=True)
        for f, g in zip(recorded, mg.grad(y, leaves, gy, retain_graph=True)):
            np.testing.assert_allclose(f.numpy(), g.numpy(), rtol=1e-12)
        v = RNG.normal(size=2)
        (second,) = mg.grad((recorded[1] * v).sum(), leaves[0], retain_graph=True)
        (swapped,) = mg.grad(function(leaves[0], Tensor(v), leaves[2]), leaves[0], gy)  # ⟨v, gγ⟩ is linear in γ
        np.testing.assert_allclose(second.numpy(), swapped.numpy(), rtol=1e-9, atol=1e-12)


def test_29_divisibility_lists_what_would_do():
    for call in (lambda: layers.GroupNorm(4, 6), lambda: functional.group_norm(np.ones((2, 6)), 4)):
        with pytest.raises(ValueError, match=r"4 groups for 6 channels.*1, 2, 3, 6"):
            call()
    with pytest.raises(ValueError, match="num_groups=0"):
        layers.GroupNorm(0, 6)


def test_30_groups_are_neighbouring_channels():
    x = np.array([[1.0, 3.0, 10.0, 20.0]])
    np.testing.assert_allclose(ops.group_norm(x, 2, eps=0.0), [[-1, 1, -1, 1]], rtol=1e-14)
    y = RNG.normal(size=(2, 6, 3))
    np.testing.assert_allclose(ops.group_norm(y, 3), ref.group_norm(y, 3), rtol=1e-12)


def test_32_folding():
    """What can be folded, is; what cannot, is refused: the whole table is in layers/test_folding.py."""
    model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4, affine=False)).to("float64")
    model(Tensor(RNG.normal(size=(6, 3))))
    x = Tensor(RNG.normal(size=(5, 3)))
    np.testing.assert_allclose(layers.fold(model.eval())(x).numpy(), model(x).numpy(), rtol=1e-12)
    with pytest.raises(ArgumentError, match="training mode"):
        layers.fold(model.train())


@centred
def test_34_a_bias_before_has_no_gradient_and_relu_may_come_first_or_last(name):
    function, rng = MEMBERS[name], np.random.default_rng(34)  # its own: no y may be close to 0, whatever ran before
    x, gy = rng.normal(size=(4, 4, 3)), rng.normal(size=(4, 4, 3))
    if name in ("batch", "instance"):  # of which a channel's mean is subtracted
        b = Tensor(np.ones((1, 4, 1)), requires_grad=True)
        assert np.abs(mg.grad(function(Tensor(x) + b), b, gy)[0].numpy()).max() < 1e-12
    far = np.where(np.abs(x) < 0.05, 0.5, x)
    check_gradients(lambda x: function(ops.relu(x)), far, 2, elements=4)
    y = function(x)
    assert np.abs(y).min() > 1e-4
    check_gradients(lambda x: ops.relu(function(x)), x, 1, eps=1e-6, rtol=1e-4, elements=4)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 0)], ids=str)
@member
def test_36_empty_inputs(name, shape):
    leaf = Tensor(np.zeros(shape), requires_grad=True)
    y = MEMBERS[name](leaf)
    assert y.shape == shape
    (g,) = mg.grad(y, leaf, np.zeros(shape), create_graph=True)
    assert g.shape == shape
    mask = np.ones((shape[0], shape[2]), bool)
    for norm, given in ((layers.InstanceNorm1d(4, track_running_stats=True), (leaf,)), (layers.BatchNorm1d(4), (leaf,)),
                        (layers.BatchNorm1d(4), (leaf, mask))):
        before = statistics(norm)
        assert norm(*given).shape == shape
        assert_same(statistics(norm), before)  # nothing is said, so nothing is counted


LAYOUTS = {
    "fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "channels last": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1),
    "strided": lambda a: np.repeat(a, 2, 2)[:, :, ::2],
    "broadcast": lambda a: np.broadcast_to(a[:, :1], a.shape),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])  # compiled kernels serve the first
@pytest.mark.parametrize("layout", LAYOUTS)
@member
def test_37_layouts(name, layout, dtype):
    view, gy = (LAYOUTS[way](RNG.normal(size=(4, 4, 5)).astype(dtype)) for way in (layout, "fortran"))
    assert not view.flags.c_contiguous
    mask, bound = PADDED[:, ::-1], 1e-12 if dtype is np.float64 else 1e-5
    for function, same in ((MEMBERS[name], MEMBERS[name]), (lambda x: ops.batch_norm(x, mask=mask)[0],
                                                            lambda x: ops.batch_norm(x, mask=mask.copy())[0])):
        for f, w in zip(both(function, view, gy), both(same, np.array(view, order="C"), np.array(gy, order="C"))):
            assert relative(f, w) <= bound


def test_38_one_channel():
    """C = 1 on every way: with and without mask, in training and evaluation, grouped and alone."""
    x = RNG.normal(size=(4, 1, 5))
    wanted = ref.batch_norm(x)[0]
    norm = layers.BatchNorm1d(1, dtype=np.float64)
    np.testing.assert_allclose(norm(Tensor(x)).numpy(), wanted, rtol=1e-11)
    np.testing.assert_allclose(norm(Tensor(x), np.ones((4, 5), bool)).numpy(), wanted, rtol=1e-11)
    for mask in (None, np.ones((4, 5), bool), PADDED):
        with layers.withhold_statistics(norm) as held:
            norm(Tensor(x), mask)
        update, _ = held.updates[norm]
        assert update.mean.shape == update.variance.shape == (1,)
    assert norm.eval()(Tensor(x), PADDED).shape == x.shape
    assert norm.running_mean.shape == norm.running_var.shape == (1,)
    np.testing.assert_allclose(ops.group_norm(x, 1), ref.instance_norm(x)[0], rtol=1e-11)
    np.testing.assert_allclose(layers.InstanceNorm1d(1)(Tensor(x)).numpy(), ref.instance_norm(x)[0], rtol=1e-11)
