"""Averages of weights: against the formula, with torch's arithmetic, and the model is given back bit by bit."""

import numpy as np
import pytest

from minigrad import Tensor, layers
from minigrad.errors import ArgumentError, StateError
from minigrad.optim import EMA


def build():
    return layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4))


def values(model):
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def change(model, rng):
    for p in model.parameters():
        p.assign(rng.standard_normal(p.shape))
    model(Tensor(rng.standard_normal((5, 3)).astype(np.float32)))


def test_it_is_the_formula():
    model, rng = build(), np.random.default_rng(0)
    ema = EMA(model, 0.7)
    expected = {name: value.astype(np.float64) for name, value in values(model).items()}
    for t in range(1, 30):
        change(model, rng)
        ema.update()
        d = min(0.7, (1 + t) / (10 + t))
        for name, value in values(model).items():
            expected[name] = value if value.dtype.kind == "i" else d * expected[name] + (1 - d) * value
    own = values(model)
    with ema.applied() as applied:
        assert applied is model
        for name, value in values(model).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
        assert values(model)["1.num_batches_tracked"] == 29
    for name, value in values(model).items():
        assert value.tobytes() == own[name].tobytes()
    ema.apply()
    np.testing.assert_allclose(values(model)["0.weight"], expected["0.weight"], rtol=1e-5, atol=1e-6)


def test_the_model_gets_its_own_values_back_after_an_error():
    model = build()
    ema = EMA(model, 0.5)
    change(model, np.random.default_rng(0))
    own = values(model)
    with pytest.raises(RuntimeError), ema.applied():
        raise RuntimeError
    assert all(np.array_equal(value, own[name]) for name, value in values(model).items())


def test_half_precision_is_averaged_in_single():
    model = layers.Linear(1, 1, bias=False).to("float16")
    model.weight.assign([[1.0]])
    ema = EMA(model, 0.999)
    for _ in range(5):
        model.weight.assign([[1.001]])
        ema.update()
    assert ema.state_dict()["averages"]["weight"].dtype == np.float32


def test_a_state_of_another_model_is_refused():
    ema = EMA(build(), 0.9)
    before = ema.state_dict()
    for state in ({}, {"averages": {}, "updates": 1}, EMA(layers.Linear(3, 4), 0.9).state_dict(),
                  before | {"averages": before["averages"] | {"0.weight": np.zeros((4, 4), np.float32)}}):
        with pytest.raises(StateError):
            ema.load_state_dict(state)
    with pytest.raises(ArgumentError, match="decay=1"):
        EMA(build(), 1)
