"""BatchNorm folded into the linear map before it: the same outputs, or a refusal that says why."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, layers
from minigrad.errors import ArgumentError, ShapeError
from minigrad.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Identity,
    Linear,
    Module,
    ReLU,
    Sequential,
    fold,
    folds,
    freeze,
)


def settle(model, x, seed=0):
    """Running statistics, γ and β that are not those of the start; then evaluation."""
    rng = np.random.default_rng(seed)
    for _ in range(3):
        model(Tensor(x))
    for layer in model.modules():
        if isinstance(layer, layers.BatchNorm):
            for p in layer.parameters():
                p.assign(rng.normal(size=p.shape))
    return model.eval()


def images(dtype, seed=0):
    return np.random.default_rng(seed).normal(size=(6, 2, 5, 5)).astype(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-13), (np.float32, 1e-5)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [{}, {"affine": False}, {"bias": False}])
@pytest.mark.parametrize("example", [True, False])
def test_the_folded_model_computes_the_same(dtype, bound, bias, affine, example):
    model = Sequential(
        Conv2d(2, 4, 3, padding=1, groups=2, bias=bias), BatchNorm2d(4, **affine), ReLU(),
        Sequential(Conv2d(4, 3, 2, stride=2, bias=bias), BatchNorm2d(3, **affine)), Flatten(), Dropout(0.5),
        Linear(12, 5, bias=bias), BatchNorm1d(5, **affine)).to(dtype)
    x = images(dtype)
    settle(model, x)
    state = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    folded = fold(model, *([Tensor(x)] if example else []))
    assert not any(isinstance(layer, (BatchNorm1d, BatchNorm2d)) for layer in folded.modules())
    assert sum(isinstance(layer, Identity) for layer in folded.modules()) == 3
    fresh = Tensor(images(dtype, 1))
    found, wanted = folded(fresh).numpy(), model(fresh).numpy()
    assert found.dtype == dtype
    assert np.abs(found - wanted).max() <= bound * np.abs(wanted).max()
    assert not folded.training
    for name, t in model.state_dict().items():  # the model itself is as it was
        np.testing.assert_array_equal(t.numpy(), state[name])
    model.train()
    assert [f.path for f in folds(model)] == ["1", "3.1", "7"]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("kind", "norm", "axes"), [
    (layers.Conv1d, layers.BatchNorm1d, 1), (layers.Conv3d, layers.BatchNorm3d, 3),
    (layers.ConvTranspose1d, layers.BatchNorm1d, 1), (layers.ConvTranspose2d, layers.BatchNorm2d, 2),
    (layers.ConvTranspose3d, layers.BatchNorm3d, 3)])
def test_other_convolutions(kind, norm, axes, groups):
    model = Sequential(kind(4, 6, 2, groups=groups), norm(6)).to("float64")
    x = np.random.default_rng(1).normal(size=(3, 4, *(4,) * axes))
    settle(model, x)
    found, wanted = fold(model)(Tensor(x)).numpy(), model(Tensor(x)).numpy()
    assert np.abs(found - wanted).max() <= 1e-13 * np.abs(wanted).max()


class Residual(Module):
    """The convolution's output goes two ways in `both`."""

    def __init__(self, both):
        super().__init__()
        self.both = both
        self.conv, self.norm, self.after = Conv2d(2, 2, 3, padding=1), BatchNorm2d(2), BatchNorm2d(2)

    def forward(self, x):
        y = self.conv(x)
        return self.after(self.norm(y) + (y if self.both else x))


def test_the_connections_are_seen_with_an_example():
    x = images(np.float64)
    for both, why in ((False, ""), (True, "what it is given is used elsewhere too")):
        model = settle(Residual(both).to("float64"), x)
        found = folds(model, Tensor(x))
        assert [(f.path, f.into, f.reason) for f in found] == [
            ("norm", "" if both else "conv", why),
            ("after", "", "nothing linear stands before it (folding into what follows would be wrong at padding)")]
        with pytest.raises(ArgumentError, match="after: nothing linear"):
            fold(model, Tensor(x))
        folded = fold(model, Tensor(x), strict=False)
        assert isinstance(folded.norm, BatchNorm2d if both else Identity)
        np.testing.assert_allclose(folded(Tensor(x)).numpy(), model(Tensor(x)).numpy(), rtol=1e-10, atol=1e-12)
        assert [f.reason for f in folds(model)] == [
            "the order of calls is known in a Sequential alone: pass an example input to see what feeds it"] * 2


def shared_layer():
    linear = Linear(3, 3)
    return Sequential(linear, BatchNorm1d(3), linear, BatchNorm1d(3))


def shared_parameter():
    first, second = Linear(3, 3), Linear(3, 3)
    second.weight = first.weight
    return Sequential(first, BatchNorm1d(3), ReLU(), second)


REFUSED = {
    "training": (lambda: Sequential(Linear(3, 3), BatchNorm1d(3)).train(), r"1: it is in training mode: call eval\(\)"),
    "no statistics": (lambda: Sequential(Linear(3, 3), BatchNorm1d(3, track_running_stats=False)),
                      "1: it has no running statistics"),
    "not linear": (lambda: Sequential(Linear(3, 3), ReLU(), BatchNorm1d(3)), "2: it follows ReLU, which is not linear"),
    "first": (lambda: Sequential(BatchNorm1d(3), Linear(3, 3)), "0: nothing linear stands before it .*padding"),
    "alone": (lambda: BatchNorm1d(3), "BatchNorm1d: the order of calls is known in a Sequential alone"),
    "channels": (lambda: Sequential(Linear(3, 4), BatchNorm1d(3)), "3 channels and the layer before it gives 4"),
    "shared layer": (shared_layer, "1: .*used in several places.*; 3: .*used in several places"),
    "shared parameter": (shared_parameter, "1: .*shares a parameter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_why(name):
    make, why = REFUSED[name]
    model = make()
    if name != "training":
        model.eval()
    with pytest.raises(ArgumentError, match=why):
        fold(model)


def test_what_a_layer_is_called_with_counts():
    model = Sequential(Linear(3, 4), BatchNorm1d(4)).eval()
    x = Tensor(np.ones((2, 4, 3), np.float32))  # (N, L, features): the normalization is over axis 1, not the features
    with pytest.raises(ArgumentError, match="normalizes axis 1"):
        fold(model, x)

    class Twice(Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = Conv2d(2, 2, 1), BatchNorm2d(2)

        def forward(self, x):
            return self.norm(self.conv(self.norm(self.conv(x))))

    with pytest.raises(ArgumentError, match="called more than once"):
        fold(Twice().eval(), Tensor(images(np.float32)))


def test_a_model_that_is_no_sequential_is_folded_by_example_alone():
    """What stands in a Sequential may be used in another way by the module around it."""
    class Skips(Module):
        def __init__(self):
            super().__init__()
            self.body = Sequential(Linear(3, 3), BatchNorm1d(3))

        def forward(self, x):
            y = self.body[0](x)
            return {"sum": self.body[1](y), "parts": [y]}

    x = Tensor(np.ones((2, 3), np.float32))
    with pytest.raises(ArgumentError, match=r"body\.1: .*pass an example input"):
        fold(Skips().eval())
    with pytest.raises(ArgumentError, match=r"1\.body\.1: .*pass an example input"):
        fold(Sequential(ReLU(), Skips()).eval())
    with pytest.raises(ArgumentError, match=r"body\.1: what it is given is used elsewhere too"):
        fold(Skips().eval(), x)


@pytest.mark.parametrize("place", ["linear", "norm", "before norm", "around"])
@pytest.mark.parametrize("example", [True, False])
def test_hooks_between_are_refused(place, example):
    inside = Sequential(Linear(3, 3))
    model = Sequential(inside, BatchNorm1d(3)).eval()
    if place == "before norm":
        model[1].register_forward_pre_hook(lambda layer, args: None)
    else:
        {"linear": inside[0], "norm": model[1], "around": inside}[place].register_forward_hook(lambda *_: None)
    if place == "around" and example:  # it is seen to change nothing
        fold(model, Tensor(np.ones((2, 3), np.float32)))
        return
    with pytest.raises(ArgumentError, match=r"1: (it, or the layer before it, has hooks|it follows Sequential)"):
        fold(model, *([Tensor(np.ones((2, 3), np.float32))] if example else []))


def test_folded_features_stay_features():
    """Without an example nothing says that a linear layer is given sequences, whose features are not axis 1."""
    model = Sequential(Linear(4, 3), BatchNorm1d(3)).eval()
    folded = fold(model)
    assert model(Tensor(np.ones((2, 3, 4), np.float32))).shape == (2, 3, 3)
    with pytest.raises(ShapeError, match=r"input of shape \(2, 3, 3\); wanted \(N, C\)"):
        folded(Tensor(np.ones((2, 3, 4), np.float32)))


def test_looking_at_connections_changes_nothing():
    model = Sequential(Conv2d(2, 3, 3), BatchNorm2d(3), Dropout(0.5))
    state = mg.ops.random.default_generator.get_state()
    model[2].eval()
    folds(model, Tensor(images(np.float32)))
    assert model[1].num_batches_tracked.item() == 0
    assert mg.ops.random.default_generator.get_state() == state
    assert not any(layer._hooks for layer in model.modules())


def test_a_frozen_normalization_folds_in_training_mode():
    model = Sequential(Linear(3, 4), BatchNorm1d(4))
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    settle(model, x).train()
    freeze(model)
    np.testing.assert_allclose(fold(model)(Tensor(x)).numpy(), model(Tensor(x)).numpy(), rtol=1e-4, atol=1e-6)
