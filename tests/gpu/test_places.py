"""Where arrays live: moving, making, and refusing to mix. On a GPU and with the stand-in, as `test_gpu`."""

import json
import re
import sys
from inspect import signature

import numpy as np
import pytest
from layer_cases import LAYERS

import minigrad as mg
import minigrad.functional as F
from minigrad import Generator, Tensor, cli, io, layers, ops, optim
from minigrad.backend import Device, as_device
from minigrad.data import FashionMNIST, Subset
from minigrad.errors import DeviceError
from minigrad.examples import _setup, char_model, train_mlp

# ------------------------------------------------------------------ moving


def test_moving_is_differentiable_and_round_trips(real):
    x = Tensor([1.0, 2.0], requires_grad=True)
    there = x.to("cuda")
    assert str(there.device) == "cuda:0"
    assert there.to("cuda") is there
    assert there.cuda() is there
    assert x.to("auto").device == Device("cuda")
    (there * there).sum().cpu().backward()
    assert x.grad.device == Device("cpu")
    assert x.grad.tolist() == [2.0, 4.0]
    both = x.to("cuda", np.float64)
    assert (both.device, both.dtype) == (Device("cuda"), np.float64)
    assert both.cpu().numpy().tolist() == [1.0, 2.0]
    assert repr(there.detach()) == "Tensor([1., 2.], float32, cuda:0)"


def test_a_module_moves_with_gradients_and_buffers(real):
    model = layers.Sequential(layers.Linear(3, 2), layers.BatchNorm1d(2))
    before = [id(p) for p in model.parameters()]
    model(Tensor(np.ones((4, 3), np.float32) * np.arange(4, dtype=np.float32)[:, None])).sum().backward()
    values = [t.numpy().copy() for t in model.state_dict().values()]
    for device in ("cuda", "cpu"):
        assert model.to(device=device) is model
        assert [id(p) for p in model.parameters()] == before
        held = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
        assert {t.device.type for t in held} == {device}
        for t, value in zip(model.state_dict().values(), values, strict=True):
            np.testing.assert_array_equal(t.numpy(), value)
    assert next(model.cuda().parameters()).device.type == "cuda"
    assert next(model.cpu().parameters()).device.type == "cpu"


def test_an_averaged_model_and_an_optimizer_follow_their_parameters(real):
    w = mg.Parameter([1.0, 2.0])
    optimizer = optim.Adam([w], lr=0.1)
    for device in ("cpu", "cuda", "cpu"):
        w.data = w.to(device).data
        w.grad = Tensor(np.ones(2, np.float32), device=device)
        optimizer.step()
        assert w.device.type == device
    np.testing.assert_allclose(w.numpy(), [0.7, 1.7], rtol=1e-5)


def test_states_move_between_devices(tmp_path, real):
    pytest.importorskip("safetensors")
    x = np.random.default_rng(0).random((4, 1, 28, 28), dtype=np.float32)
    for here, there in (("cuda", "cpu"), ("cpu", "cuda")):
        model = train_mlp.build("batch").to(here)
        io.save(model.state_dict(), tmp_path / "model.safetensors")
        other = train_mlp.build("batch", seed=5).to(there)
        other.load_state_dict(io.load(tmp_path / "model.safetensors"))
        first, second = (m.eval()(Tensor(x, device=d)).numpy() for m, d in ((model, here), (other, there)))
        assert {t.device.type for t in other.state_dict().values()} == {there}
        assert np.abs(first - second).max() < 1e-5 * np.abs(first).max()
    other.load_state_dict(model.state_dict())  # straight, without a file
    assert {t.device.type for t in other.state_dict().values()} == {"cuda"}


# ------------------------------------------------------------------ making

MADE = {
    "tensor": lambda d: mg.tensor([1, 2], device=d),
    "asarray": lambda d: mg.asarray([1.0], device=d),
    "asarray of a Tensor": lambda d: mg.asarray(Tensor([1.0]), device=d),
    "Tensor": lambda d: Tensor(np.arange(3), device=d),
    "Parameter": lambda d: mg.Parameter([1.0], device=d),
    "Buffer": lambda d: mg.Buffer([1.0], device=d),
    "full": lambda d: mg.full((2, 3), 1.5, device=d),
    "zeros": lambda d: mg.zeros(2, 3, device=d),
    "ones": lambda d: mg.ones((2,), dtype=np.int64, device=d),
    "arange": lambda d: mg.arange(1, 2, 0.25, device=d),
    "linspace": lambda d: mg.linspace(0, 1, 5, device=d),
    "logspace": lambda d: mg.logspace(0, 2, 3, device=d),
    "eye": lambda d: mg.eye(2, 3, device=d),
    "full_like": lambda d: mg.full_like(Tensor([1.0]), 2.0, device=d),
    "zeros_like": lambda d: mg.zeros_like(Tensor([1.0]), device=d),
    "ones_like": lambda d: mg.ones_like(Tensor([1.0]), device=d),
    "meshgrid": lambda d: mg.meshgrid(mg.arange(3, device=d))[0],
    "randperm": lambda d: mg.randperm(9, Generator(1), device=d),
}
RANDOM = {
    "rand": lambda g, d: mg.rand(4000, generator=g, device=d),
    "randn": lambda g, d: mg.randn(4000, generator=g, device=d),
    "rand_like": lambda g, d: mg.rand_like(mg.zeros(4000), g, device=d),
    "randn_like": lambda g, d: mg.randn_like(mg.zeros(4000, device=d), g),
    "normal": lambda g, d: mg.normal(0.0, 1.0, 4000, g, device=d),
    "uniform": lambda g, d: mg.uniform(0.0, 1.0, (4000,), g, device=d),
    "randint": lambda g, d: mg.randint(0, 100, 4000, g, device=d),
    "bernoulli": lambda g, d: mg.bernoulli(mg.full(4000, 0.5, device=d), g),
    "multinomial": lambda g, d: mg.multinomial(mg.ones(8, device=d), 4000, True, g),
    "multinomial, each once": lambda g, d: mg.multinomial(mg.ones(4000, device=d), 3000, False, g),
    "init.normal_": lambda g, d: layers.init.normal_(mg.empty(4000, device=d), generator=g),
    "init.uniform_": lambda g, d: layers.init.uniform_(mg.empty(4000, device=d), generator=g),
    "Linear": lambda g, d: layers.Linear(40, 100, device=d, generator=g).weight,
}


@pytest.mark.parametrize("name", MADE)
def test_made_on_the_device_as_on_the_cpu(name, real):
    here, there = (MADE[name](device) for device in ("cpu", "cuda"))
    assert (str(here.device), str(there.device)) == ("cpu", "cuda:0")
    assert here.dtype == there.dtype
    np.testing.assert_allclose(there.numpy(), here.numpy(), rtol=1e-6)


def test_what_was_in_memory(real):
    for made in (mg.empty(2, 3, device="cuda"), mg.empty_like(mg.zeros(2, 3), device="cuda"),
                 mg.empty_like(mg.zeros(2, 3, device="cuda"))):
        assert (made.shape, made.dtype, made.device) == ((2, 3), np.float32, Device("cuda"))


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_of_a_seed(name, real):
    """One seed, one sequence on each device; the sequences of two devices need not be the same."""
    draw = RANDOM[name]
    first, again, other = (draw(Generator(seed), "cuda") for seed in (1, 1, 2))
    assert first.device == Device("cuda")
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    assert not np.array_equal(first.numpy(), other.numpy())
    assert abs(float(first.numpy().mean()) - float(draw(Generator(1), "cpu").numpy().mean())) < 0.1 * max(
        1.0, float(first.numpy().std()))
    mg.manual_seed(3)
    default = draw(None, "cuda").numpy()
    mg.manual_seed(3)
    np.testing.assert_array_equal(draw(None, "cuda").numpy(), default)


@pytest.mark.parametrize("row", [row for row in LAYERS if "device" in signature(getattr(layers, row.name)).parameters],
                         ids=str)
def test_layers_are_made_on_the_device(row, real):
    args, options = row.arguments(layers, lambda a: a)
    here, there = (getattr(layers, row.name)(*args, **options, device=device) for device in ("cpu", "cuda"))
    assert {t.device for t in there.state_dict().values()} <= {Device("cuda")}
    assert [(name, t.shape, t.dtype) for name, t in there.state_dict().items()] == [
        (name, t.shape, t.dtype) for name, t in here.state_dict().items()]


# ------------------------------------------------------------------ not mixing

HOST, THERE = Tensor(np.ones((2, 2))), "cuda"
MIXED = {
    "Add": lambda x: HOST + x,
    "Subtract": lambda x: x - HOST,
    "Multiply": lambda x: x * HOST.numpy(),
    "MatMul": lambda x: HOST @ x,
    "Linear": lambda x: F.linear(x, HOST),
    "Where": lambda x: ops.where(Tensor(np.ones((2, 2), bool)), x, 0.0),
    "Concat": lambda x: ops.concat([x, HOST]),
    "Maximum": lambda x: ops.maximum(HOST, x),
    "Greater": lambda x: x > HOST,
    "LayerNorm": lambda x: ops.layer_norm(x, 2, Tensor(np.ones(2))),
    "BatchNorm": lambda x: ops.batch_norm(x, Tensor(np.ones(2))),
    "BatchNormInference": lambda x: ops.batch_norm_inference(x, Tensor(np.zeros(2)), Tensor(np.ones(2))),
    "Attention": lambda x: ops.attention(x, HOST, x),
    "take": lambda x: ops.take(x, Tensor(np.array([0, 1])), 0),
    "embedding": lambda x: F.embedding(Tensor(np.array([0, 1])), x),
    "CrossEntropy": lambda x: F.cross_entropy(x, HOST),
    "Convolution": lambda x: F.conv1d(x, Tensor(np.ones((2, 2, 1)))),
}


@pytest.mark.parametrize("name", MIXED)
def test_mixed_devices_are_refused_naming_both(name, real):
    x = Tensor(np.ones((2, 2)), requires_grad=True, device="cuda")
    with pytest.raises(DeviceError, match=f"{name}.*cpu and cuda:0") as refused:
        MIXED[name](x)
    assert "\n" not in str(refused.value)


def test_the_layer_is_named_too(real):
    model = layers.Sequential(layers.ReLU(), layers.Linear(2, 2))
    with pytest.raises(DeviceError, match=re.escape("Linear in layer 1 (Linear): got arrays on cpu and cuda:0")):
        model(mg.ones(3, 2, device="cuda"))


def test_a_gradient_elsewhere_is_refused(real):
    w = mg.Parameter([1.0])
    w.grad = mg.ones(1, device="cuda")
    with pytest.raises(DeviceError, match=r"SGD.step.*cuda:0.*cpu"):
        optim.SGD([w], lr=0.1).step()


def test_arrays_and_lists_go_where_they_are_needed(real):
    """Masks, indices, targets and gradients as NumPy arrays or lists say which elements, wherever those are."""
    rows = np.arange(12.0).reshape(4, 3)
    x, here = (Tensor(rows, requires_grad=True, device=d) for d in ("cuda", "cpu"))
    mask, kept = np.array([True, False, True, True]), np.array([[True, False, True, True]] * 4)
    for call in (lambda x: x[[0, 2]], lambda x: x[mask], lambda x: x[np.int64(1)], lambda x: ops.take(x, [1, 1], 0),
                 lambda x: x[Tensor(np.array([3, 0]))], lambda x: ops.repeat(x, np.array([2, 0, 1, 1]), 0),
                 lambda x: ops.layer_norm(x, 3, mask=np.ones((4, 3), bool)), lambda x: F.cross_entropy(x, [0, 1, 2, 0]),
                 lambda x: F.cross_entropy(x, [0, 1, 2, 0], np.array([1.0, 2.0, 3.0])),
                 lambda x: F.nll_loss(x, np.array([0, 1, 2, 0]), np.array([1.0, 2.0, 3.0])),
                 lambda x: ops.gather(x, 1, np.array([[0], [1], [2], [0]])), lambda x: ops.attention(x, x, x, kept)[0]):
        there, wanted = call(x), call(here)
        assert there.device == Device("cuda")
        np.testing.assert_allclose(there.numpy(), wanted.numpy(), rtol=1e-12)
        u = np.ones(wanted.shape)
        (g,), (w,) = mg.grad(there, x, u), mg.grad(wanted, here, u)
        np.testing.assert_allclose(g.numpy(), w.numpy(), rtol=1e-12)


# ------------------------------------------------------------------ asking for what is not there


@pytest.mark.parametrize(("spec", "said"), [("cuda:7", r"'cuda:7'"), ("gpu", "'cpu', 'cuda', 'cuda:N' or 'auto'")])
def test_devices_that_are_not_there(spec, said, real):
    with pytest.raises(DeviceError, match=said):
        as_device(spec)


@pytest.mark.parametrize("command", [["mlp"], ["cnn"], ["resnet"], ["mlp", "--compare", "none,batch"],
                                     ["mlp", "--compare", "lr=0.1,0.2"]], ids=" ".join)
def test_every_trainer_says_in_one_line_what_is_missing(command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    with pytest.raises(SystemExit) as left:
        cli.main(["train", *command, "--tiny", "--device", "cuda"])
    said = capsys.readouterr()
    assert left.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "'cuda'" in said.err
    assert "CuPy is not installed" in said.err
    assert not list(tmp_path.iterdir())


def test_the_text_model_says_it_too(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(SystemExit) as left:
        char_model.main(["--tiny", "--device", "cuda:0"])
    assert (left.value.code, len(capsys.readouterr().err.splitlines())) == (2, 1)


@pytest.mark.parametrize("ask", [lambda: Tensor([1.0]).to("cuda"), lambda: Tensor([1.0], device="cuda"),
                                 lambda: mg.zeros(2, device="cuda"), lambda: mg.rand(2, device="cuda"),
                                 lambda: layers.Linear(2, 2).to("cuda"), lambda: layers.Linear(2, 2, device="cuda")])
def test_without_a_gpu_nothing_is_made(ask, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"^device.*'cuda'.*CuPy is not installed") as refused:
        ask()
    assert "\n" not in str(refused.value)
    assert Tensor([1.0]).to("auto").device == Device("cpu")


@pytest.mark.parametrize(("module", "device"), [("mlp", "cuda"), ("cnn", "auto"), ("resnet", "cuda:0")])
def test_trainers_run_there_and_go_on_elsewhere(module, device, tmp_path, monkeypatch, real):
    pytest.importorskip("safetensors")

    class Few(Subset):
        """Sixteen images: what is to be seen is where they go."""

        source = "sixteen images"

        def __init__(self, train=True, **_):
            super().__init__(FashionMNIST(train), range(16))

    monkeypatch.setattr(_setup, "FashionMNIST", Few)
    run = tmp_path / "run"
    few = ["--batch-size", "8", "--epochs", "1", "--out", str(run), "--dataset", "fashion-mnist"]
    assert cli.main(["train", module, "--device", device, *few]) == 0
    steps = read_rows(run)
    assert cli.main(["train", module, "--resume", str(run), "--epochs", "2", "--device", "cpu"]) == 0
    assert read_rows(run)[: len(steps)] == steps
    assert [row["step"] for row in read_rows(run) if "loss" in row][-1] == 4
    assert all(np.isfinite(a).all() for a in io.load(run / "model.safetensors").values())


def read_rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_text_model_runs_there(tmp_path, real):
    pytest.importorskip("safetensors")
    assert char_model.main(["--tiny", "--device", "cuda", "--out", str(tmp_path / "run")]) == 0
    assert io.load(tmp_path / "run" / "model.safetensors")
