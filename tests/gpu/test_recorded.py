"""On a GPU: steps replayed against steps launched one by one, half precision, asynchronous batches, random streams."""

import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Tensor, cuda, layers, optim
from minigrad.backend import cuda_problem
from minigrad.data import DataLoader, TensorDataset
from minigrad.errors import GraphError

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())]

OPTIMIZERS = {"sgd": lambda p: optim.SGD(p, lr=0.05, momentum=0.9), "adam": lambda p: optim.Adam(p, lr=1e-3),
              "adamw": lambda p: optim.AdamW(p, lr=1e-3, amsgrad=True)}


def training(optimizer, dropout=0.0, half=None):
    minigrad.manual_seed(0)
    model = layers.Sequential(layers.Conv2d(1, 8, 3, padding=1, bias=False), layers.BatchNorm2d(8), layers.ReLU(),
                              layers.MaxPool2d(2), layers.Dropout(dropout), layers.Flatten(), layers.Linear(8 * 36, 32),
                              layers.LayerNorm(32), layers.Linear(32, 5)).to("cuda")
    stepper = OPTIMIZERS[optimizer](model.parameters())

    def step(x, t):
        with minigrad.autocast(half or "float16", enabled=half is not None):
            loss = F.cross_entropy(model(x), t)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
        return loss

    return model, stepper, step


def batches(count, size=16):
    rng = np.random.default_rng(1)
    return [(Tensor(rng.standard_normal((size, 1, 12, 12), dtype=np.float32), device="cuda"),
             Tensor(rng.integers(0, 5, size), device="cuda")) for _ in range(count)]


def difference(one, two):
    return max(float(np.abs(a.numpy().astype(np.float64) - b.numpy()).max() / max(1e-3, np.abs(b.numpy()).max()))
               for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replayed_steps_are_plain_steps(optimizer):
    plain, _, step = training(optimizer)
    replayed, stepper, other = training(optimizer)
    fast = cuda.replay(other)
    for x, t in batches(10):
        a, b = step(x, t).item(), fast(x, t).item()
        assert abs(a - b) < 2e-3 * abs(a)  # cuBLAS may choose another algorithm for a product that is recorded
    assert fast.recorded
    assert difference(replayed, plain) < 5e-3
    assert replayed[1].num_batches_tracked.item() == 10
    assert all(state.get("step", 10) == 10 for state in stepper.state_dict()["state"].values())


def test_a_host_read_is_refused_and_the_step_can_go_on():
    model, _, step = training("sgd")
    fast = cuda.replay(lambda x, t: step(x, t).item() if fast.calls > 2 else step(x, t))
    data = batches(4)
    for x, t in data[:2]:
        fast(x, t)
    with pytest.raises(GraphError, match="item"):
        fast(*data[2])
    assert np.isfinite(step(*data[3]).item())
    assert model[1].num_batches_tracked.item() == 3


def test_a_read_of_the_raw_array_is_refused_and_the_device_goes_on():
    fast = cuda.replay(lambda x: x * float(x.data.sum()) if fast.calls > 2 else x * 2.0)
    x = Tensor(np.ones(4, np.float32), device="cuda")
    fast(x), fast(x)
    with pytest.raises(GraphError, match="while the step was recorded"):
        fast(x)
    assert (x + 1.0).tolist() == [2.0] * 4


def test_masks_go_on_between_replays():
    drop = layers.Dropout(0.5)
    minigrad.manual_seed(1)
    fast, x = cuda.replay(drop), Tensor(np.ones((64, 64), np.float32), device="cuda")
    found = [fast(x).numpy() for _ in range(6)]
    minigrad.manual_seed(1)
    assert all(np.array_equal(a, drop(x).numpy()) for a in found)
    assert len({f.tobytes() for f in found}) == 6


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_close_to_single(half):
    if half == "bfloat16":
        pytest.importorskip("ml_dtypes")
    single, _, step = training("sgd")
    mixed, _, other = training("sgd", half=half)
    fast = cuda.replay(other)
    losses = [(step(x, t).item(), fast(x, t).item()) for x, t in batches(6)]
    assert max(abs(a - b) / a for a, b in losses) < 0.1
    assert all(p.grad.dtype == np.float32 for p in mixed.parameters())
    assert difference(mixed, single) < 0.5


def test_batches_are_copied_ahead():
    data = TensorDataset(np.arange(4000, dtype=np.float32).reshape(1000, 4), np.arange(1000))
    there = list(DataLoader(data, 64, device="cuda"))
    here = list(DataLoader(data, 64))
    for (x, t), (u, v) in zip(here, there, strict=True):
        assert str(u.device) == "cuda:0"
        assert np.array_equal(u.numpy(), x.numpy())
        assert np.array_equal(v.numpy(), t.numpy())


def test_random_streams_go_on_from_a_state():
    generator = minigrad.Generator(7)
    first = generator.stream("cuda").random((100,), dtype="float32").get()
    state = generator.get_state()
    wanted = generator.stream("cuda").random((100,), dtype="float32").get()
    generator.set_state(state)
    assert np.array_equal(generator.stream("cuda").random((100,), dtype="float32").get(), wanted)
    generator.manual_seed(7)
    assert np.array_equal(generator.stream("cuda").random((100,), dtype="float32").get(), first)


def test_memory_is_counted():
    before = cuda.memory_statistics().used
    x = Tensor(np.zeros(1 << 20, np.float32), device="cuda")
    assert cuda.memory_statistics().used - before >= x.data.nbytes
    with cuda.peak_memory() as peak:
        (x * 2.0).sum().item()
    assert peak.bytes >= before + 2 * x.data.nbytes
    del x
    cuda.empty_cache()
    assert cuda.memory_statistics().used <= before + 4096
