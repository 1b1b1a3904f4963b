"""Each optimizer against its formula, written out a second time in float64 without any regard for speed."""

import itertools

import numpy as np
import pytest

from minigrad import Parameter, Tensor
from minigrad.optim import SGD, Adam, AdamW, slots

SHAPE, STEPS, LR = (5, 3), 12, 0.05


def gradients(seed=0):
    return np.random.default_rng(seed).normal(size=(STEPS, *SHAPE))


def start():
    return np.random.default_rng(99).normal(size=SHAPE)


def written_out_sgd(momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    p, b = start(), None
    for g in gradients():
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g if b is None else momentum * b + (1 - dampening) * g
            g = g + momentum * b if nesterov else b
        p = p - LR * g
    return p


def written_out_adam(betas, eps, weight_decay, amsgrad, maximize, decoupled):
    p, m, v, top = start(), np.zeros(SHAPE), np.zeros(SHAPE), np.zeros(SHAPE)
    for t, g in enumerate(gradients(), start=1):
        g = -g if maximize else g
        if decoupled:
            p = p - LR * weight_decay * p
        else:
            g = g + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        top = np.maximum(top, v)
        corrected = (top if amsgrad else v) / (1 - betas[1] ** t)
        p = p - LR * (m / (1 - betas[0] ** t)) / (np.sqrt(corrected) + eps)
    return p


def trained(kind, dtype=np.float64, order="C", **options):
    parameter = Parameter(np.asarray(start(), dtype=dtype, order=order))
    optimizer = kind([parameter], lr=LR, **options)
    for g in gradients():
        parameter.grad = Tensor(g.astype(dtype))
        optimizer.step()
    return parameter.data


def error(got, wanted):
    return np.abs(got - wanted).max() / np.abs(wanted).max()


SGD_OPTIONS = [
    dict(zip(("momentum", "dampening", "weight_decay", "nesterov", "maximize"), values))
    for values in itertools.product((0.0, 0.9), (0.0, 0.3), (0.0, 0.1), (False, True), (False, True))
    if not (values[3] and (values[0] == 0 or values[1] != 0))
]
ADAM_OPTIONS = [
    dict(zip(("betas", "eps", "weight_decay", "amsgrad", "maximize"), values))
    for values in itertools.product(
        ((0.9, 0.999), (0.0, 0.5)), (1e-8, 0.1), (0.0, 0.1), (False, True), (False, True)
    )
]
LIMITS = [(np.float64, 1e-14), (np.float32, 1e-6)]


@pytest.mark.parametrize(("dtype", "limit"), LIMITS)
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd(options, dtype, limit):
    assert error(trained(SGD, dtype, **options), written_out_sgd(**options)) < limit


@pytest.mark.parametrize(("dtype", "limit"), LIMITS)
@pytest.mark.parametrize("kind", [Adam, AdamW])
@pytest.mark.parametrize("options", ADAM_OPTIONS, ids=str)
def test_adam(kind, options, dtype, limit):
    wanted = written_out_adam(**options, decoupled=kind is AdamW)
    assert error(trained(kind, dtype, **options), wanted) < 4 * limit


EVERYTHING = [
    (SGD, {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True, "maximize": True}),
    (SGD, {"momentum": 0.9, "dampening": 0.3}),
    (Adam, {"weight_decay": 0.1, "amsgrad": True, "maximize": True}),
    (AdamW, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("kind", "options"), EVERYTHING)
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_change_no_bit(kind, options, order, monkeypatch):
    whole = trained(kind, np.float32, order, **options)
    monkeypatch.setattr(slots, "CPU_BLOCK", 4)
    assert np.array_equal(trained(kind, np.float32, order, **options), whole)


@pytest.mark.parametrize(("kind", "options"), EVERYTHING)
def test_half_precision_is_updated_in_float32_and_rounded_once(kind, options, monkeypatch):
    def stepped():
        half = Parameter(start().astype(np.float16))
        optimizer = kind([half], lr=LR, **options)
        for g in gradients():
            half.grad = Tensor(g.astype(np.float16))
            single = Parameter(half.data.astype(np.float32))
            follower = kind([single], lr=LR, **options)
            follower.load_state_dict(optimizer.state_dict())
            single.grad = Tensor(half.grad.data.astype(np.float32))
            optimizer.step()
            follower.step()
            assert np.array_equal(half.data, single.data.astype(np.float16))
        assert all(a.dtype == np.float32 for a in optimizer.state[half].values() if isinstance(a, np.ndarray))
        return half.data

    whole = stepped()
    monkeypatch.setattr(slots, "CPU_BLOCK", 4)
    assert np.array_equal(stepped(), whole)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_degenerate_shapes(kind, shape):
    parameter = Parameter(np.ones(shape))
    parameter.grad = Tensor(np.full(shape, 3.0))
    kind([parameter], lr=0.5).step()
    assert parameter.shape == shape
    wanted = 1 - 0.5 * 3 if kind is SGD else (1 - 0.5) if kind is Adam else 1 - 0.5 * 0.01 - 0.5
    assert np.allclose(parameter.data, wanted, rtol=0, atol=1e-7)


def test_momentum_that_is_switched_on_later_starts_from_the_gradient():
    parameter = Parameter(np.zeros(2))
    optimizer = SGD([parameter], lr=1.0, dampening=0.5)
    for momentum, wanted in ((0.0, -1.0), (0.5, -2.0), (0.5, -3.0)):  # b = 1, then 0.5·1 + 0.5·1
        optimizer.param_groups[0]["momentum"] = momentum
        parameter.grad = Tensor(np.ones(2))
        optimizer.step()
        assert np.array_equal(parameter.data, [wanted, wanted])
