"""On a GPU: every operation against the CPU, higher derivatives of the normalizations, layers, optimizers, training."""

import cases
import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Tensor, grad, io, layers, ops, optim
from minigrad.backend import cuda_problem
from minigrad.data import FashionMNIST
from minigrad.errors import DeviceError
from minigrad.examples import train_cnn, train_mlp
from minigrad.examples._setup import Split, accuracy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())]

# The row of `cast` goes to a dtype that only the CPU has.
CASES = [case for case in cases.CASES if case.name != "cast"]
TOLERANCE = {np.float64: 1e-10, np.float32: 2e-5}


def relative(got, wanted):
    """max |difference| / max |reference|, and 0 for nothing at all."""
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if wanted.size == 0 or wanted.dtype.kind in "biu":
        return float(not np.array_equal(got, wanted))
    scale = np.abs(wanted).max()
    return float(np.abs(got - wanted).max() / (scale if scale > 0 else 1))


def derivatives(case, arrays, device, dtype, order):
    """The outputs of a case and its gradients up to `order`, as NumPy arrays."""
    leaves = [Tensor(a.astype(dtype) if a.dtype.kind == "f" else a, device=device) for a in arrays]
    floating = [t.requires_grad_() for t in leaves if t.dtype.kind == "f"]
    out = case.call(*leaves)
    outs = list(out if isinstance(out, tuple) else (out,))
    assert all(o.device.type == ("cuda" if device == "cuda" else "cpu") for o in outs)
    found = [o.numpy() for o in outs]
    value = sum(((o * o * o).sum() for o in outs if o.requires_grad), start=Tensor(np.zeros((), dtype), device=device))
    for _ in range(order):
        if not value.requires_grad:
            break
        gs = [g for g in grad(value, floating, create_graph=True, allow_unused=True) if g is not None]
        found += [g.numpy() for g in gs]
        value = sum(((g * g).sum() for g in gs), start=Tensor(np.zeros((), dtype), device=device))
    return found


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_operation_as_on_the_cpu(case, dtype):
    order = min(case.order, 2) if dtype is np.float64 else min(case.order, 1)
    arrays = case.draw()
    here = derivatives(case, arrays, "cpu", dtype, order)
    there = derivatives(case, arrays, "cuda", dtype, order)
    assert len(here) == len(there)
    assert max(map(relative, there, here), default=0.0) < TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_inference", "layer_norm"])
def test_normalizations_to_order_four(name):
    for case in (c for c in cases.CASES if c.name == name):
        arrays = case.draw()
        here, there = (derivatives(case, arrays, device, np.float64, 4) for device in ("cpu", "cuda"))
        assert max(map(relative, there, here)) < 1e-9


def test_statistics_hold_in_float32():
    x = (np.random.default_rng(0).standard_normal((65536, 4)) + 1e4).astype(np.float32)
    y = ops.batch_norm(Tensor(x, device="cuda"))[0].numpy()
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    assert np.abs(y - wanted).max() < 1e-3
    constant = ops.batch_norm(Tensor(np.full((64, 3), 0.1, np.float32), device="cuda"))[0].numpy()
    assert np.all(constant == 0)


def test_casts():
    x = Tensor([1.5, -2.0], requires_grad=True, device="cuda")
    y = x.astype(np.float64)
    (g,) = grad((y * y).sum(), x)
    assert (y.dtype, g.dtype, g.tolist()) == (np.float64, np.float32, [3.0, -4.0])
    assert x.astype(np.int64).tolist() == [1, -2]


def test_mixed_devices_are_refused_naming_both():
    with pytest.raises(DeviceError, match=r"cpu and cuda:0"):
        Tensor([1.0]) + Tensor([1.0], device="cuda")


def test_moving_is_differentiable_and_round_trips():
    x = Tensor([1.0, 2.0], requires_grad=True)
    there = x.to("cuda")
    assert str(there.device) == "cuda:0"
    assert there.to("cuda") is there
    (there * there).sum().cpu().backward()
    assert x.grad.device.type == "cpu"
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_write_on_the_gpu_is_seen():
    w = Tensor(np.ones(3), requires_grad=True, device="cuda")
    loss = (w * w).sum()
    w.assign(2.0)
    with pytest.raises(minigrad.errors.GraphError, match="changed in place"):
        loss.backward()


@pytest.mark.parametrize("make", [
    lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda p: optim.Adam(p, lr=0.01),
    lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
], ids=["SGD", "Adam", "AdamW"])
def test_optimizers_follow_the_cpu(make):
    def trajectory(device):
        minigrad.manual_seed(0)
        model = layers.Sequential(layers.Linear(6, 5), layers.BatchNorm1d(5), layers.GELU(), layers.Linear(5, 3))
        model.to(device=device, dtype=np.float64)
        optimizer = make(model.parameters())
        rng = np.random.default_rng(0)
        for _ in range(20):
            x, t = Tensor(rng.standard_normal((8, 6)), device=device), Tensor(rng.integers(0, 3, 8), device=device)
            loss = F.cross_entropy(model(x), t)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [t.numpy() for t in model.state_dict().values()]

    assert max(map(relative, trajectory("cuda"), trajectory("cpu"))) < 1e-9


@pytest.mark.parametrize("module", [train_mlp, train_cnn], ids=["mlp", "cnn"])
def test_training_reaches_the_same_accuracy(module):
    data = Split(FashionMNIST(), FashionMNIST(train=False))
    options = dict(module.DEFAULTS, epochs=2, seed=0)
    here = accuracy(module.train("batch", data, device="cpu", **options), data.test)
    there = accuracy(module.train("batch", data, device="cuda", **options), data.test, "cuda")
    assert there > 0.75
    assert abs(here - there) < 0.03


def test_states_move_between_devices(tmp_path):
    model = train_mlp.build("batch").to("cuda")
    io.save(model.state_dict(), tmp_path / "model.safetensors")
    other = train_mlp.build("batch")
    other.load_state_dict(io.load(tmp_path / "model.safetensors"))
    x = np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)
    here, there = other.eval()(Tensor(x)).numpy(), model.eval()(Tensor(x, device="cuda")).numpy()
    assert relative(there, here) < 1e-5


def test_repeated_runs_agree():
    x = np.random.default_rng(0).standard_normal((64, 16, 8, 8)).astype(np.float32)
    results = []
    for _ in range(5):
        t = Tensor(x, requires_grad=True, device="cuda")
        y = ops.batch_norm(t)[0]
        (g,) = grad((y * y * y).sum(), t)
        results.append(g.numpy())
    assert all(np.array_equal(results[0], other) for other in results[1:])
