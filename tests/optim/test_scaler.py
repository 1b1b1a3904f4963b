"""GradScaler: its arithmetic, and that a step which is left out leaves no trace."""

import math

import numpy as np
import pytest

import minigrad
import minigrad.functional as F
from minigrad import Parameter, Tensor, layers, optim
from minigrad.errors import ArgumentError, GraphError, StateError
from minigrad.optim import SGD, Adam, GradScaler


def test_a_scaled_step_is_the_plain_step():
    found = []
    for scaler in (None, GradScaler(init_scale=4096.0)):
        w = Parameter(np.array([1.0, -2.0], np.float32))
        optimizer = Adam([w], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            loss = (w * w * w).sum()
            if scaler is None:
                loss.backward()
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                assert scaler.step(optimizer)
                scaler.update()
        found.append(w.numpy())
    assert np.array_equal(*found)  # powers of two scale without rounding


def test_the_scale_falls_and_grows():
    w = Parameter(np.ones(2, np.float32))
    optimizer = SGD([w], lr=0.0)
    scaler = GradScaler(8.0, growth_factor=4.0, backoff_factor=0.5, growth_interval=2)
    scales = []
    for good in (True, False, True, True, True, False, True, True):
        w.grad = Tensor(np.array([1.0, 1.0 if good else math.inf], np.float32))
        assert scaler.step(optimizer) is good
        scaler.update()
        scales.append(scaler.get_scale())
    assert scales == [8.0, 4.0, 4.0, 16.0, 16.0, 8.0, 8.0, 32.0]
    assert scaler.skipped == 2


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_step_left_out_changes_nothing(bad):
    model = layers.Sequential(layers.Linear(3, 4), layers.BatchNorm1d(4), layers.Linear(4, 2))
    optimizer, scaler = Adam(model.parameters(), lr=0.1), GradScaler(init_scale=2.0)
    rng = np.random.default_rng(0)

    def step(factor):
        x = Tensor(rng.standard_normal((8, 3)).astype(np.float32))
        with minigrad.autocast("float16"), scaler.withheld(model):
            loss = F.cross_entropy(model(x), np.zeros(8, np.int64))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        p = next(model.parameters())
        p.grad = p.grad * factor
        taken = scaler.step(optimizer)
        scaler.update()
        return taken

    def state():
        moments = optimizer.state_dict()["state"]
        return [t.numpy().copy() for t in model.state_dict().values()] + [a for s in moments.values()
                                                                          for a in s.values()]

    assert step(1.0)
    before = state()
    assert model[1].num_batches_tracked.item() == 1
    assert not step(bad)
    assert all(np.array_equal(a, b) for a, b in zip(before, state(), strict=True))
    assert step(1.0)
    assert model[1].num_batches_tracked.item() == 2


def test_withheld_statistics_are_those_of_a_plain_step():
    x = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    plain, held = layers.BatchNorm1d(3), layers.BatchNorm1d(3)
    scaler, w = GradScaler(), Parameter([1.0])
    w.grad = Tensor([0.0])
    for part in (x[:4], x[4:]):
        plain(Tensor(part))
        with scaler.withheld(held):
            held(Tensor(part))
    assert held.num_batches_tracked.item() == 0
    scaler.step(SGD([w]))
    scaler.update()
    for a, b in zip(plain.state_dict().values(), held.state_dict().values()):
        assert np.array_equal(a.numpy(), b.numpy())


def test_its_state_goes_on():
    w = Parameter(np.ones(2, np.float32))
    optimizer, scaler = SGD([w], lr=0.0), GradScaler(8.0, growth_interval=3)

    def take(scaler, value):
        w.grad = Tensor(np.full(2, value, np.float32))
        scaler.step(optimizer)
        scaler.update()
        return scaler.get_scale()

    take(scaler, math.inf), take(scaler, 1.0)
    other = GradScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.state_dict() == scaler.state_dict()
    assert [take(other, v) for v in (1.0, 1.0, 1.0)] == [4.0, 8.0, 8.0]
    for wrong in ({}, {**scaler.state_dict(), "scale": -1.0}, {**scaler.state_dict(), "growth_factor": 0.5},
                  {**scaler.state_dict(), "scale": "1"}):
        before = other.state_dict()
        with pytest.raises(StateError):
            other.load_state_dict(wrong)
        assert other.state_dict() == before


def test_calls_out_of_order_are_refused():
    w = Parameter([1.0])
    w.grad = Tensor([1.0])
    optimizer, scaler = SGD([w]), GradScaler()
    with pytest.raises(GraphError, match="no step since"):
        scaler.update()
    scaler.unscale_(optimizer)
    with pytest.raises(GraphError, match="unscaled already"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    with pytest.raises(GraphError, match="stepped already"):
        scaler.step(optimizer)
    for options in ({"init_scale": 0.0}, {"growth_factor": 1.0}, {"backoff_factor": 1.0}, {"growth_interval": 0}):
        with pytest.raises(ArgumentError):
            GradScaler(**options)


def test_clipping_between_sees_the_true_norm():
    w = Parameter(np.array([3.0, 4.0], np.float32))
    optimizer, scaler = SGD([w], lr=1.0), GradScaler(init_scale=1024.0)
    scaler.scale((w * w).sum() * 0.5).backward()
    scaler.unscale_(optimizer)
    assert optim.clip_grad_norm_([w], 1.0).item() == 5.0
    assert scaler.step(optimizer)
    assert np.allclose(w.numpy(), [3.0 - 0.6, 4.0 - 0.8])
