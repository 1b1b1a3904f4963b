"""Everything on a GPU as on the CPU: operations, layers, derivatives, optimizers, training, checkpoints.

Each test runs twice: on a GPU (marker `gpu`), where there is one, and with `standin` in its place, which shows on any
machine what would copy to the host unseen, meet arrays of the host, or not be in the array API.
"""

import cases
import numpy as np
import pytest
from layer_cases import ROWS, gradients

import minigrad
import minigrad.functional as F
from minigrad import Tensor, grad, layers, ops, optim
from minigrad.data import FashionMNIST, Subset
from minigrad.examples import train_cnn, train_mlp
from minigrad.examples._setup import Settings, Split, accuracy

# The row of `cast` goes to a dtype that only the CPU has.
CASES = [case for case in cases.CASES if case.name != "cast"]
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
TOLERANCE = {np.float64: 1e-10, np.float32: 2e-5}


def relative(got, wanted):
    """max |difference| / max |reference|, and 0 for nothing at all."""
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if wanted.size == 0 or wanted.dtype.kind in "biu":
        return float(not np.array_equal(got, wanted))
    scale = np.abs(wanted).max()
    return float(np.abs(got - wanted).max() / (scale if scale > 0 else 1))


def furthest(there, here):
    assert len(there) == len(here)
    return max(map(relative, there, here), default=0.0)


def derivatives(case, arrays, device, dtype, order):
    """The outputs of a case and its gradients up to `order`, as NumPy arrays."""
    leaves = [Tensor(a.astype(dtype) if a.dtype.kind == "f" else a, device=device) for a in arrays]
    floating = [t.requires_grad_() for t in leaves if t.dtype.kind == "f"]
    outs = cases.as_tuple(case.call(*leaves))
    assert all(o.device.type == device for o in outs)
    found = [o.numpy() for o in outs]
    value = sum(((o * o * o).sum() for o in outs if o.requires_grad), start=minigrad.zeros(dtype=dtype, device=device))
    for _ in range(order):
        if not value.requires_grad:
            break
        gs = [g for g in grad(value, floating, create_graph=True, allow_unused=True) if g is not None]
        assert all(g.device.type == device for g in gs)
        found += [g.numpy() for g in gs]
        value = sum(((g * g).sum() for g in gs), start=minigrad.zeros(dtype=dtype, device=device))
    return found


# ------------------------------------------------------------------ operations and layers


@DTYPES
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation_as_on_the_cpu(case, dtype, real_or_texts):
    order = min(case.order, 2 if dtype is np.float64 else 1)
    arrays = case.draw()
    here, there = (derivatives(case, arrays, device, dtype, order) for device in ("cpu", "cuda"))
    assert furthest(there, here) < TOLERANCE[dtype]


@pytest.mark.parametrize("case", cases.NORMALIZATIONS, ids=str)
def test_normalizations_at_higher_orders(case, real_or_texts):
    arrays = case.draw()
    here, there = (derivatives(case, arrays, device, np.float64, case.order) for device in ("cpu", "cuda"))
    assert case.order >= 3
    assert furthest(there, here) < 1e-9


@DTYPES
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_layer_and_function_as_on_the_cpu(row, dtype, real):
    found = {}
    for device in ("cpu", "cuda"):
        call, arrays = row.pure(dtype, device)
        values = [y.numpy() for y in call(*(Tensor(a, device=device) for a in arrays))]
        call, _ = row.pure(dtype, device)  # anew: running statistics have moved
        found[device] = values + gradients(call, arrays, device)
    scale = max((np.abs(a).max() for a in found["cpu"] if a.size), default=1.0)
    for got, wanted in zip(found["cuda"], found["cpu"], strict=True):  # some are 0, up to rounding
        assert got.dtype == wanted.dtype
        assert np.abs(got - wanted).max(initial=0) < TOLERANCE[dtype] * scale


@pytest.mark.parametrize("layer", [layers.BatchNorm1d(3), layers.BatchNorm1d(3, momentum=None),
                                   layers.InstanceNorm1d(3, track_running_stats=True)], ids=str)
def test_running_statistics_as_on_the_cpu(layer, real):
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 3, 5)).astype(np.float32)
    states = {}
    for device in ("cpu", "cuda"):
        layer.reset_running_stats()
        layer.to(device)
        for _ in range(2):
            layer(Tensor(x, device=device))
        assert layer.running_var.device.type == device
        states[device] = [t.numpy() for t in layer.state_dict().values()]
    assert int(layer.num_batches_tracked) == 2
    layer.to("cpu")
    assert furthest(states["cuda"], states["cpu"]) < 1e-6


def test_statistics_hold_in_float32(real):
    x = (np.random.default_rng(0).standard_normal((65536, 4)) + 1e4).astype(np.float32)
    y = ops.batch_norm(Tensor(x, device="cuda"))[0].numpy()
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    assert np.abs(y - wanted).max() < 1e-3
    constant = ops.batch_norm(Tensor(np.full((64, 3), 0.1, np.float32), device="cuda"))[0].numpy()
    assert np.all(constant == 0)
    large = (x - 1e4) * np.float32(1e30)
    wide = large.astype(np.float64)
    wanted = (wide - wide.mean(0)) / np.sqrt(wide.var(0))
    assert np.abs(ops.batch_norm(Tensor(large, device="cuda"))[0].numpy() - wanted).max() < 1e-4


def test_casts(real):
    x = Tensor([1.5, -2.0], requires_grad=True, device="cuda")
    y = x.astype(np.float64)
    (g,) = grad((y * y).sum(), x)
    assert (y.dtype, g.dtype, g.tolist()) == (np.float64, np.float32, [3.0, -4.0])
    assert x.astype(np.int64).tolist() == [1, -2]


def test_a_write_on_the_gpu_is_seen(real):
    w = Tensor(np.ones(3), requires_grad=True, device="cuda")
    loss = (w * w).sum()
    view = w.detach()
    view.assign(2.0)
    with pytest.raises(minigrad.errors.GraphError, match="changed in place"):
        loss.backward()


def test_dropout_keeps_the_share_it_should(real):
    x = minigrad.ones(100, 400, device="cuda", requires_grad=True)
    for p in (0.25, 0.5):
        y = F.dropout(x, p, generator=minigrad.Generator(1))
        again = F.dropout(x, p, generator=minigrad.Generator(1))
        kept = y.numpy() != 0
        assert y.device.type == "cuda"
        assert np.array_equal(y.numpy(), again.numpy())
        assert abs(kept.mean() - (1 - p)) < 0.02
        assert np.allclose(y.numpy()[kept], 1 / (1 - p))


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optim.Adam(p, lr=0.01),
    lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
], ids=["SGD", "Adam", "AdamW"])
def test_optimizers_follow_the_cpu(make, real):
    here, there = (trained(make, [device] * 20) for device in ("cpu", "cuda"))
    assert furthest(there, here) < 1e-12


def trained(make, devices, keep=lambda state: state):
    """The state of a small network after a step on each of these devices; between two of them, a checkpoint moves it.

    Without a bias before BatchNorm: its gradient is 0, and what rounding leaves of that, 10⁻¹⁷, Adam divides by ε, so
    that the bias walks by 10⁻⁹ in a direction that hangs on the order of sums.
    """
    minigrad.manual_seed(0)
    model, optimizer, place = None, None, ""
    state = None
    rng = np.random.default_rng(0)
    for device in devices:
        if device != place:
            if model is not None:
                state = keep({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
            model = layers.Sequential(layers.Linear(6, 5, bias=False), layers.BatchNorm1d(5), layers.GELU(),
                                      layers.Linear(5, 3)).to(device, np.float64)
            optimizer, place = make(model.parameters()), device
            if state is not None:
                model.load_state_dict(state["model"])
                optimizer.load_state_dict(state["optimizer"])
        x, t = Tensor(rng.standard_normal((8, 6)), device=device), Tensor(rng.integers(0, 3, 8), device=device)
        loss = F.cross_entropy(model(x), t)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return [t.numpy() for t in model.state_dict().values()]


@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_checkpoints_move_between_devices(first, then, tmp_path, real):
    pytest.importorskip("safetensors")

    def through_a_file(state):
        minigrad.io.write_checkpoint(tmp_path / "step", state)
        return minigrad.io.read_checkpoint(tmp_path / "step")

    def make(parameters):
        return optim.AdamW(parameters, lr=0.01, amsgrad=True)

    uninterrupted = trained(make, ["cpu"] * 6)
    assert furthest(trained(make, [first] * 3 + [then] * 3, through_a_file), uninterrupted) < 1e-12


@pytest.mark.parametrize("module", [train_mlp, train_cnn], ids=["mlp", "cnn"])
def test_training_reaches_the_same_accuracy(module, real):
    """Two epochs of all images on a GPU; on the stand-in as many as it takes a moment to see."""
    train, test = FashionMNIST(), FashionMNIST(train=False)
    if not real:
        train, test = Subset(train, range(320)), Subset(test, range(200))
    fewer = {"epochs": 2} if real else {"epochs": 1, "batch_size": 10}
    data, reached = Split(train, test), {}
    for device in ("cpu", "cuda"):
        options = Settings(**(module.DEFAULTS | fewer | {"device": device}))
        reached[device] = accuracy(module.train(options, data), data.test, device)
    assert reached["cuda"] > (0.75 if real else 0.3)
    assert abs(reached["cpu"] - reached["cuda"]) < (0.03 if real else 0.06)  # of 200 images


# ------------------------------------------------------------------ races

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((64, 16, 12, 12)).astype(np.float32)
ROWS_OF = RNG.standard_normal((512, 384)).astype(np.float32)
REPEATED = {
    "batch_norm": (lambda x: ops.batch_norm(x)[0], IMAGES),
    "instance_norm": (lambda x: ops.instance_norm(x)[0], IMAGES),
    "group_norm": (lambda x: ops.group_norm(x, 4), IMAGES),
    "layer_norm": (lambda x: ops.layer_norm(x, 384), ROWS_OF),
    "rms_norm": (lambda x: F.rms_norm(x, (384,)), ROWS_OF),
    "softmax": (ops.softmax, ROWS_OF),
    "cross_entropy": (lambda x: F.cross_entropy(x, np.arange(512) % 384), ROWS_OF),
    "sum": (lambda x: ops.sum(x, 0), ROWS_OF),
    "max_pool": (lambda x: F.max_pool2d(x, 3, 2, 1), IMAGES),
    "avg_pool": (lambda x: F.avg_pool2d(x, 3, 2, 1), IMAGES),
    "convolution": (lambda x: F.conv2d(x, minigrad.ones(8, 16, 3, 3, device="cuda"), padding=1), IMAGES),
    "attention": (lambda x: ops.attention(x, x, x)[0], ROWS_OF.reshape(4, 128, 384)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_repeated_runs_agree(name, real):
    """What depends on which thread comes first does not come out the same ten times."""
    call, x = REPEATED[name]
    results = []
    for _ in range(10 if real else 2):
        t = Tensor(x, requires_grad=True, device="cuda")
        y = call(t)
        (g,) = grad((y * y * y).sum(), t)
        results.append((y.numpy(), g.numpy()))
    for y, g in results[1:]:
        assert np.array_equal(results[0][0], y)
        assert np.array_equal(results[0][1], g)


@pytest.mark.parametrize("call", [lambda x, i: ops.take(x, i, 0), lambda x, i: x[i]], ids=["take", "getitem"])
def test_repeated_indices_add_up(call, real):
    """Many threads add to the same few rows; in which order, and so the last digit, is left open."""
    x, indices = Tensor(np.zeros((7, 5)), requires_grad=True, device="cuda"), np.arange(70_000) % 7
    for _ in range(3):
        (g,) = grad(call(x, indices).sum(), x)
        assert g.numpy().tolist() == np.full((7, 5), 10_000.0).tolist()
