"""minigrad.cuda.replay on a stand-in for CuPy that plays CUDA graphs: N replays are N plain steps, bit for bit."""

import cupy_on_numpy
import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Tensor, cuda, layers, optim
from minigrad.errors import ArgumentError, DeviceError, GraphError


@pytest.fixture
def gpu(monkeypatch):
    with cupy_on_numpy.installed(monkeypatch) as state:
        yield state


def there(array):
    return Tensor(np.asarray(array), device="cuda")


def network(kind="cnn", **norm):
    minigrad.manual_seed(0)
    if kind == "mlp":
        return layers.Sequential(layers.Flatten(), layers.Linear(64, 7, bias=False), layers.BatchNorm1d(7, **norm),
                                 layers.Sigmoid(), layers.Linear(7, 5), layers.LayerNorm(5), layers.Linear(5, 3))
    return layers.Sequential(layers.Conv2d(1, 4, 3, padding=1, bias=False), layers.BatchNorm2d(4, **norm),
                             layers.ReLU(), layers.MaxPool2d(2), layers.Dropout(0.3), layers.Flatten(),
                             layers.Linear(64, 3))


OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1), "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: optim.Adam(p, lr=0.01, weight_decay=0.01),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
}


def batches(count, size=6):
    rng = np.random.default_rng(1)
    return [(rng.standard_normal((size, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, size)) for _ in range(count)]


class Training:
    """A network, its optimizer, and one step of training."""

    def __init__(self, kind="cnn", optimizer="adam", clip=None, norm=None, **loss):
        self.model = network(kind, **(norm or {})).to("cuda")
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.clip, self.options = clip, loss
        minigrad.manual_seed(3)

    def step(self, x, t):
        loss = F.cross_entropy(self.model(x), t, **self.options)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            optim.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss

    def state(self):
        found = {name: t.numpy() for name, t in self.model.state_dict().items()}
        for i, held in self.optimizer.state_dict()["state"].items():
            found.update({f"{i}.{name}": np.asarray(a) for name, a in held.items()})
        found.update({f"{i}.grad": p.grad.numpy() for i, p in enumerate(self.model.parameters()) if p.grad is not None})
        return found


def same(one, two):
    assert one.keys() == two.keys()
    return [name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)]


def compared(plain, replayed, count=7, between=lambda training, i: None, **options):
    """Train both; the losses and what is left of each."""
    fast = cuda.replay(replayed.step, **options)
    found = []
    for training, step in ((plain, plain.step), (replayed, fast)):
        minigrad.manual_seed(3)
        losses = []
        for i, (x, t) in enumerate(batches(count)):
            between(training, i)
            losses.append(step(there(x), there(t)))
        found.append([loss.item() for loss in losses])  # every one is still there: results are copies
    assert fast.recorded
    assert found[0] == found[1]
    assert same(plain.state(), replayed.state()) == []
    return fast


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_replayed_steps_are_plain_steps(gpu, kind, optimizer):
    compared(Training(kind, optimizer), Training(kind, optimizer))
    assert gpu.launches == 5


@pytest.mark.parametrize("norm", [{"momentum": None}, {"debias": True}], ids=str)
def test_averages_that_hang_on_the_count(gpu, norm):
    compared(Training("mlp", norm=norm), Training("mlp", norm=norm))


def test_a_schedule_between_replays_takes_effect(gpu):
    def between(training, i):
        if i == 0:
            training.schedule = optim.CosineAnnealingLR(training.optimizer, 10)
        else:
            training.schedule.step()

    compared(Training("mlp", "adam"), Training("mlp", "adam"), between=between)


def test_clipping_and_label_smoothing(gpu):
    options = {"clip": 0.05, "label_smoothing": 0.1}
    compared(Training("mlp", "sgd", **options), Training("mlp", "sgd", **options))


def test_autocast_inside_a_step(gpu):
    def training():
        made = Training("mlp", "adam")
        plain = made.step

        def step(x, t):
            with minigrad.autocast("float16"):
                loss = F.cross_entropy(made.model(x), t)
            made.optimizer.zero_grad()
            loss.backward()
            made.optimizer.step()
            return loss

        made.step = step
        assert plain is not None
        return made

    compared(training(), training())


def test_masks_go_on_and_are_those_of_plain_steps(gpu):
    drop = layers.Dropout(0.5)
    minigrad.manual_seed(1)
    fast = cuda.replay(drop)
    x = there(np.ones((4, 50), np.float32))
    found = [fast(x).numpy() for _ in range(6)]
    minigrad.manual_seed(1)
    wanted = [drop(x).numpy() for _ in range(6)]
    assert all(map(np.array_equal, found, wanted))
    assert len({f.tobytes() for f in found}) == 6


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_losses_of_classes(gpu, loss):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    weight = there(np.array([1.0, 2.0, 0.5], np.float32))
    for options in ({}, {"weight": weight}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 1}):
        fast = cuda.replay(lambda x, t, options=options: loss(x, t, **options), warmup=1)
        for t in ([0, 1, 2, 2, 1], [2, 1, 0, 0, 0], [0, -100 if "ignore_index" not in options else 1, 2, 2, 2]):
            found = fast(there(x), there(np.array(t))).numpy()
            assert np.array_equal(found, loss(there(x), there(np.array(t)), **options).numpy())
        for bad in (3, -1):
            assert np.isnan(fast(there(x), there(np.array([0, 1, bad, 2, 2]))).numpy()).any()


def test_gathering_inside_a_step(gpu):
    table = layers.Embedding(6, 3).to("cuda")

    def step(i):
        table.zero_grad()
        loss = (table(i) ** 2).sum()
        loss.backward()
        return table.weight.grad

    fast = cuda.replay(step)
    for indices in ([1, 1, 2], [0, 5, 1], [3, 3, 3], [4, 0, 4]):
        found = fast(there(np.array(indices))).numpy()
        assert np.array_equal(found, step(there(np.array(indices))).numpy())


def test_a_batch_that_is_not_finite_leaves_the_statistics(gpu):
    norm = layers.BatchNorm1d(2).to("cuda")
    fast = cuda.replay(norm)
    good = there(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
    bad = there(np.array([[1.0, np.inf], [3.0, 5.0]], np.float32))
    for _ in range(4):
        fast(good)
    before = [norm.running_mean.numpy(), norm.running_var.numpy()]
    fast(bad)
    assert all(map(np.array_equal, before, [norm.running_mean.numpy(), norm.running_var.numpy()]))
    assert norm.num_batches_tracked.item() == 4
    fast(good)
    assert norm.num_batches_tracked.item() == 5
    plain = layers.BatchNorm1d(2)
    for _ in range(5):
        plain(good.cpu())
    assert np.array_equal(plain.running_var.numpy(), norm.running_var.numpy())


def test_gradients_accumulate_over_replays(gpu):
    w = minigrad.Parameter(np.array([1.0, 2.0], np.float32), device="cuda")
    optimizer = optim.SGD([w], lr=0.1)

    def part(x):
        loss = (w * x).sum()
        loss.backward()
        return loss

    fast, x = cuda.replay(part), there(np.array([1.0, 10.0], np.float32))
    for count in range(1, 6):
        fast(x)
        assert w.grad.tolist() == [count, 10.0 * count]
    optimizer.step()
    optimizer.zero_grad()
    fast(x)
    assert w.grad.tolist() == [1.0, 10.0]


def test_a_gradient_that_the_recording_did_not_know_is_refused(gpu):
    w = minigrad.Parameter(np.ones(2, np.float32), device="cuda")
    fast, x = cuda.replay(lambda x: (w * x).sum().backward(), warmup=1), there(np.ones(2, np.float32))
    fast(x)
    w.grad = None
    fast(x)
    with pytest.raises(GraphError, match=r"a gradient to add to.*zero_grad\(\)"):
        fast(x)


def test_loading_a_state_between_replays(gpu):
    a, b = Training("mlp", "adam"), Training("mlp", "adam")
    saved = {name: t.numpy().copy() for name, t in network("mlp").state_dict().items()}

    def between(training, i):
        if i == 5:
            training.model.load_state_dict(saved)

    compared(a, b, between=between)


def test_plain_steps_in_between(gpu):
    plain, mixed = Training("mlp"), Training("mlp")
    fast = cuda.replay(mixed.step)
    for i, (x, t) in enumerate(batches(9)):
        plain.step(there(x), there(t))
        (mixed.step if i in (4, 6) else fast)(there(x), there(t))
    assert same(plain.state(), mixed.state()) == []


def test_memory_of_the_graph_is_its_own(gpu):
    training = Training("cnn", "adam")
    fast = cuda.replay(training.step)
    for x, t in batches(4):
        fast(there(x), there(t))
        junk = [there(np.full(n, np.nan, np.float32)) for n in (1, 3, 7, 64, 256, 1536)]
        assert len(junk) == 6
    assert fast._graphs._pool.recycled > 10  # memory is used again inside the graph
    plain = Training("cnn", "adam")
    for x, t in batches(4):
        plain.step(there(x), there(t))
    assert same(plain.state(), training.state()) == []


def test_a_graph_recorded_before_is_stale_afterwards(gpu):
    training = Training("mlp", "sgd")
    fast = cuda.replay(training.step)
    data = [(there(x), there(t)) for x, t in batches(4)]
    for x, t in data[:3]:
        fast(x, t)
    loss = F.cross_entropy(training.model(data[0][0]), data[0][1])
    fast(*data[3])
    with pytest.raises(GraphError, match="changed in place"):
        loss.backward()


# ------------------------------------------------------------------ what is refused


def failing(what):
    training = Training("mlp")

    def step(x, t):
        loss = training.step(x, t)
        if len(calls) >= 2:
            what(loss, x, training)
        calls.append(1)
        return loss

    calls = []
    return training, step


@pytest.mark.parametrize(("what", "said"), [
    (lambda loss, x, training: loss.item(), "item: got a call inside a step that is being recorded"),
    (lambda loss, x, training: float(loss), "item: got"),
    (lambda loss, x, training: bool(loss > 0), "item: got"),
    (lambda loss, x, training: loss.numpy(), "numpy: got"),
    (lambda loss, x, training: x.tolist(), "numpy: got"),
    (lambda loss, x, training: repr(loss), "numpy: got"),
    (lambda loss, x, training: loss.data.get(), "RuntimeError while the step was recorded: the current stream"),
    (lambda loss, x, training: loss.cpu(), "RuntimeError while the step was recorded"),
    (lambda loss, x, training: x * there(np.ones(8, np.float32)), "RuntimeError while the step was recorded"),
    (lambda loss, x, training: minigrad.einsum("ncij->nc", x).sum(), "einsum"),
    (lambda loss, x, training: optim.EMA(training.model, 0.9).update(), "EMA.update"),
    (lambda loss, x, training: optim.StepLR(training.optimizer, 3).step(), "StepLR.step"),
    (lambda loss, x, training: optim.GradScaler().step(training.optimizer), r"GradScaler.unscale_.*bfloat16"),
    (lambda loss, x, training: minigrad.rand(3, device="cuda", generator=minigrad.Generator(9)), "Generator"),
    (lambda loss, x, training: 1 / 0, "ZeroDivisionError while the step was recorded"),
])
def test_what_cannot_be_replayed_is_refused_and_changes_nothing(gpu, what, said):
    training, step = failing(what)
    fast = cuda.replay(step)
    data = [(there(x), there(t)) for x, t in batches(4)]
    for x, t in data[:2]:
        fast(x, t)
    before = training.state()
    with pytest.raises(GraphError, match=said):
        fast(*data[2])
    after = training.state()
    assert same({k: v for k, v in before.items() if "grad" not in k},
                {k: v for k, v in after.items() if "grad" not in k}) == []
    assert not fast.recorded
    plain = Training("mlp")
    for x, t in data:
        plain.step(x, t)
    for x, t in data[2:]:
        training.step(x, t)
    assert same(plain.state(), training.state()) == []


@pytest.mark.parametrize(("change", "said"), [
    (lambda x, t: (x[:4], t[:4]), r"got float32\[4, 1, 8, 8\], int64\[4\]; wanted float32\[6, 1, 8, 8\], int64\[6\]"),
    (lambda x, t: (x.astype(np.float64), t), r"got float64\[6"),
    (lambda x, t: (x.data, t), "got"), (lambda x, t: ((x,), t), "got"), (lambda x, t: (x, t, 1), "got"),
])
def test_other_arguments_are_refused(gpu, change, said):
    training = Training("mlp")
    fast = cuda.replay(lambda x, t, *more: training.step(x, t))
    data = [(there(x), there(t)) for x, t in batches(4)]
    for x, t in data[:3]:
        fast(x, t)
    before = training.state()
    with pytest.raises(ArgumentError, match=said):
        fast(*change(*data[3]))
    assert same(before, training.state()) == []
    fast(*data[3])


def test_constants_are_part_of_the_structure(gpu):
    fast = cuda.replay(lambda x, factor=1.0: x * factor)
    x = there(np.ones(3, np.float32))
    assert [fast(x, factor=2.0).tolist() for _ in range(4)] == [[2.0, 2.0, 2.0]] * 4
    with pytest.raises(ArgumentError, match=r"factor.*3\.0.*2\.0"):
        fast(x, factor=3.0)


def test_arguments_on_the_host_or_with_a_gradient_are_refused(gpu):
    fast = cuda.replay(lambda x: x * 2.0)
    with pytest.raises(DeviceError, match="an argument on cpu; wanted all of them on cuda:0"):
        fast(Tensor([1.0]))
    with pytest.raises(GraphError, match="requires a gradient"):
        fast(there(np.ones(2, np.float32)).requires_grad_())


@pytest.mark.parametrize("change", [
    lambda training: training.optimizer.param_groups[0].update(weight_decay=0.0),
    lambda training: training.optimizer.load_state_dict(training.optimizer.state_dict()),
    lambda training: setattr(training.model[1].weight, "data", training.model[1].weight.data.copy()),
])
def test_what_the_graph_does_not_know_of_is_refused_until_reset(gpu, change):
    training = Training("mlp", "adam")
    fast = cuda.replay(training.step)
    data = [(there(x), there(t)) for x, t in batches(4)]
    for x, t in data[:3]:
        fast(x, t)
    change(training)
    before = training.state()
    with pytest.raises(GraphError, match=r"reset\(\)"):
        fast(*data[3])
    assert same(before, training.state()) == []
    fast.reset()
    for x, t in data:
        fast(x, t)


def test_nested_results_and_arguments(gpu):
    fast = cuda.replay(lambda batch: {"sum": batch["x"][0] + batch["x"][1], "none": None, "two": (batch["x"][0], 3)})
    x, y = there(np.ones(2, np.float32)), there(np.full(2, 5.0, np.float32))
    for _ in range(4):
        found = fast({"x": [x, y]})
        assert found["sum"].tolist() == [6.0, 6.0]
        assert (found["none"], found["two"][1]) == (None, 3)
        assert found["two"][0].tolist() == [1.0, 1.0]


def test_without_a_gpu_it_says_what_is_missing():
    if not cuda.is_available():
        with pytest.raises(DeviceError, match="CuPy is"):
            cuda.replay(lambda: None)
