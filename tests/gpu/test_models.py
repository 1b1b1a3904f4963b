"""Options, states and tools around networks on a GPU as on the CPU: what `test_gpu`'s tables do not reach."""

import copy
import math
import pickle

import numpy as np
import pytest

import minigrad as mg
import minigrad.functional as F
from minigrad import Tensor, layers, ops, optim
from minigrad.data import DataLoader, TensorDataset
from minigrad.errors import ArgumentError, MinigradError, StateError
from minigrad.layers import accumulate_statistics, frozen_statistics, withhold_statistics
from minigrad.run.divergence import is_finite
from minigrad.viz import record
from minigrad.viz.watch import Watch

RNG = np.random.default_rng(0)
X, IMAGES = RNG.standard_normal((5, 4)), RNG.standard_normal((4, 3, 6, 6))
LABELS, WEIGHTS = np.array([0, 3, 1, 1, 2]), np.array([1.0, 0.5, 2.0, 0.0])


def on(device, array, live=True):
    return Tensor(array, requires_grad=live, device=device)


def model_on(device):
    mg.manual_seed(0)
    return layers.Sequential(layers.Conv2d(3, 4, 3), layers.BatchNorm2d(4), layers.ReLU(), layers.MaxPool2d(2),
                             layers.Flatten(), layers.Linear(16, 2)).to(device, np.float64)


OPTIONS = {
    "embedding": lambda x: F.embedding(LABELS, x, padding_idx=1, max_norm=0.5, scale_grad_by_freq=True),
    "cross_entropy, none": lambda x: F.cross_entropy(x, LABELS, reduction="none"),
    "cross_entropy, all ignored": lambda x: F.cross_entropy(x, np.full(5, -100)),
    "cross_entropy, all options": lambda x: F.cross_entropy(x, LABELS, WEIGHTS, 3, "mean", 0.1),
    "nll_loss, no weight left": lambda x: F.nll_loss(x, np.full(5, 3), WEIGHTS),
    "nll_loss, all ignored": lambda x: F.nll_loss(x, np.full(5, -100)),
    "batch_norm, activated": lambda x: ops.batch_norm(x, activation="relu")[0],
    "batch_norm, one mask for each channel": lambda x: ops.batch_norm(x, mask=np.abs(X) < 1.5)[0],
    "var, corrected": lambda x: ops.var(x, 0, correction=1),
    "topk": lambda x: ops.topk(x, 2)[0],
    "split": lambda x: ops.split(x, [1, 9, -1])[1],
    "round": lambda x: x + ops.round(x, 2) + ops.round(x * 1000, -2),
    "causal attention": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "sum of half types": lambda x: ops.sum(x.astype(np.float32), 0),
    "recomputed": lambda x: mg.recompute(lambda t: F.gelu(t) * 2, x),
    "jacobian": lambda x: mg.jacobian(lambda t: (t * t).sum(0), x),
    "hessian": lambda x: mg.hessian(lambda t: (t * t * t).sum(), x[0]),
    "hvp": lambda x: mg.hvp(lambda t: (t * t * t).sum(), x, np.ones((5, 4)))[1],
    "jvp": lambda x: mg.jvp(lambda t: t * t, (x,), (np.ones((5, 4)),))[1],
    "loop": lambda x: sum(iter(x)),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_as_on_the_cpu(name, real):
    found = []
    for device in ("cpu", "cuda"):
        x = on(device, X)
        y = OPTIONS[name](x)
        assert y.device.type == device
        g = mg.grad(y.sum(), x, allow_unused=True)[0] if y.requires_grad else None
        found.append((y.numpy(), np.zeros(1) if g is None else g.numpy()))
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-6 if here.dtype == np.float32 else 1e-10, atol=1e-12)


def test_what_is_out_of_range_is_refused_there_too(real):
    x = on("cuda", X)
    wrong, nothing = on("cuda", np.array([-1]), False), on("cuda", np.zeros(3), False)
    for call in (lambda: F.cross_entropy(x, [0, 1, 2, 3, 4]), lambda: ops.take(x, [5], 0), lambda: F.one_hot(wrong),
                 lambda: F.embedding(wrong, x), lambda: F.binary_cross_entropy(x, x), lambda: mg.bernoulli(x),
                 lambda: ops.repeat(x, [1, -1, 0, 0, 0], 0), lambda: mg.multinomial(nothing, 1)):
        with pytest.raises(MinigradError, match="got"):
            call()
    assert F.one_hot(on("cuda", np.array([0, 2]), False)).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_tensor_as_python_sees_it(real):
    x = mg.arange(3, device="cuda")
    assert (x.tolist(), list(map(int, x)), len(x), x[1].item(), float(x[2]), [5, 6, 7][x[1]]) == (
        [0, 1, 2], [0, 1, 2], 3, 1, 2.0, 6)
    assert bool(x[1] > 0)
    assert np.asarray(x).tolist() == [0, 1, 2]
    assert f"{x[2]:.1f}" == "2.0"
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.clone(), mg.tensor(x)):  # noqa: S301
        assert (other.device, other.tolist()) == (x.device, [0, 1, 2])
        other.assign(7)
    assert x.tolist() == [0, 1, 2]
    mg.Parameter([1.0], device="cuda").assign([2.5])


# ------------------------------------------------------------------ running statistics


def ruined(by):
    """X with something else in its first channel."""
    array = X.copy()
    array[0, 0] = by
    return array


def test_statistics_are_held_merged_and_left_out(real):
    states = []
    for device in ("cpu", "cuda"):
        norm = layers.BatchNorm1d(4, momentum=0.5).to(device, np.float64)
        with frozen_statistics(norm):
            norm(on(device, X))
        with accumulate_statistics(norm):
            norm(on(device, X[:3]))
            norm(on(device, X[3:]), mask=np.array([[True] * 4, [True] * 4]))
        with withhold_statistics(norm) as held:
            norm(on(device, X * 3))
        preview = held.preview()
        held.commit()
        with pytest.warns(RuntimeWarning, match="in channels 0;"):
            norm(on(device, ruined(np.inf)))
        states.append([norm.running_mean.numpy(), norm.running_var.numpy(), np.array(norm.dropped_updates),
                       *(a if device == "cpu" else a.get() for a in preview[""])])
        norm.nonfinite = "raise"
        with pytest.raises(StateError, match=r"channel.*0"):
            norm(on(device, ruined(np.nan)))
    for here, there in zip(*states, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-12)


def test_recalibrated_folded_and_copied(real):
    data = TensorDataset(IMAGES, np.arange(4) % 2)
    outputs = []
    for device in ("cpu", "cuda"):
        model = model_on(device)
        layers.recalibrate(model, [on(device, IMAGES, False), on(device, IMAGES[:2] * 2, False)])
        x = on(device, IMAGES, False)
        folded, twin = layers.fold(model.eval()), copy.deepcopy(model)
        outputs.append([m(x).numpy() for m in (model, folded, twin)])
        assert {p.device.type for m in (folded, twin) for p in m.parameters()} == {device}
    np.testing.assert_allclose(outputs[1][0], outputs[0][0], rtol=1e-10)
    for output in (*outputs[0], *outputs[1]):
        np.testing.assert_allclose(output, outputs[0][0], rtol=1e-10)
    assert len(next(iter(DataLoader(data, 2)))) == 2


# ------------------------------------------------------------------ optimizers and averages

OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.1, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1, amsgrad=True, maximize=True),
    "AdamW": lambda p: optim.AdamW([{"params": [q], "lr": 0.1 / (i + 1)} for i, q in enumerate(p)]),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_clipping_and_averages(name, real):
    found = []
    for device in ("cpu", "cuda"):
        model = model_on(device)
        optimizer = OPTIMIZERS[name](list(model.parameters()))
        ema, norms = optim.EMA(model, 0.5), []
        for kind in (2.0, 1.0, float("inf"), 3.0):
            optimizer.zero_grad(set_to_none=kind == 1.0)
            F.cross_entropy(model(on(device, IMAGES, False)), [0, 1, 1, 0]).backward()
            norms.append(optim.clip_grad_norm_(model.parameters(), 0.5, kind).item())
            optim.clip_grad_value_(model.parameters(), 0.1)
            optimizer.step()
            ema.update()
        with ema.applied():
            averaged = [p.numpy().copy() for p in model.parameters()]
        saved = ema.state_dict()
        ema.load_state_dict(saved)
        found.append([*(t.numpy() for t in model.state_dict().values()), *averaged, np.array(norms)])
    for here, there in zip(*found, strict=True):
        # A bias before BatchNorm has the gradient 0, and Adam makes steps of its rounding errors.
        np.testing.assert_allclose(there, here, rtol=1e-6, atol=1e-6)


def test_scaled_steps_as_on_the_cpu(real):
    """The second overflows, so it is left out with its statistics, and the scale falls."""
    found = []
    for device in ("cpu", "cuda"):
        model, taken = model_on(device), []
        optimizer, scaler = optim.SGD(model.parameters(), lr=0.1), optim.GradScaler(8.0, growth_interval=2)
        for factor in (1.0, math.inf, 1.0, 1.0):
            with scaler.withheld(model):
                loss = F.cross_entropy(model(on(device, IMAGES * len(taken), False)), [0, 1, 1, 0])
            optimizer.zero_grad()
            with np.errstate(invalid="ignore"):
                (scaler.scale(loss) * factor).backward()
                taken.append(scaler.step(optimizer))
            scaler.update()
        assert (taken, scaler.get_scale()) == ([True, False, True, True], 8.0)
        assert int(model[1].num_batches_tracked) == 3
        found.append([t.numpy() for t in model.state_dict().values()])
    for here, there in zip(*found, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-10, atol=1e-12)


def test_a_gradient_that_is_not_finite_is_refused(real):
    w = mg.Parameter([1.0], device="cuda")
    w.grad = on("cuda", np.array([np.inf], np.float32), False)
    with pytest.raises(ArgumentError, match="norm inf"):
        optim.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    assert not is_finite(w.grad)
    with pytest.raises(MinigradError, match="NaN"), mg.detect_anomaly(), np.errstate(all="ignore"):
        mg.log(mg.zeros(2, device="cuda", requires_grad=True) - 1)


# ------------------------------------------------------------------ looking at it


def test_graphs_and_watches_of_what_runs_there(real):
    model = model_on("cuda")
    with record(model) as recorder, Watch(model, 1) as watch:
        F.cross_entropy(model(on("cuda", IMAGES, False)), [0, 1, 1, 0]).backward()
        watch.after_step(1)
    assert [op.op for op in recorder.graph.top_level()][:4] == ["Convolution", "BatchNorm", "ReLU", "MaxPool"]
    here = model_on("cpu")
    with Watch(here, 1) as other:
        F.cross_entropy(here(on("cpu", IMAGES, False)), [0, 1, 1, 0]).backward()
        other.after_step(1)
    assert watch.arrays().keys() == other.arrays().keys()
    for name, wanted in other.arrays().items():
        np.testing.assert_allclose(watch.arrays()[name], wanted, rtol=1e-5, atol=1e-10, err_msg=name)
