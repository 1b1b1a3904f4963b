"""Optimizers' compiled loops against their NumPy texts: bit for bit, over all options."""

import copy

import numpy as np
import pytest
from optimizer_cases import ALL, SHAPES, SOME, name

from minigrad import Parameter, Tensor, kernels
from minigrad.optim import SGD, AdamW

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("threads")

def parameters(order="C"):
    rng = np.random.default_rng(0)
    return [Parameter(np.asarray(rng.standard_normal(shape).astype(np.float32), order=order)) for shape in SHAPES]


def give(params, step, order="C", scale=1.0):
    rng = np.random.default_rng(step + 1)
    for p in params:
        p.grad = Tensor(np.asarray((rng.standard_normal(p.shape) * scale).astype(np.float32), order=order))


def fused(optimizer):
    """Whether compiled loops have updated every parameter."""
    return all(slot.fused is not None for slot in optimizer._slots.values())


def everything(params, optimizer):
    """All numbers that an optimizer changes."""
    states = optimizer.state_dict()["state"].values()
    return [*[p.numpy() for p in params], *[np.asarray(state[key]) for state in states for key in sorted(state)]]


def trained(cls, options, tier, steps=4, order="C", gradients="C", between=lambda optimizer, step: optimizer):
    """Everything after some steps, in a tier; `between` may change or replace the optimizer after each."""
    params = parameters(order)
    optimizer = cls(params, **options)
    for step in range(steps):
        give(params, step, gradients)
        with kernels.tier(tier):
            optimizer.step()
        optimizer = between(optimizer, step)
    return everything(params, optimizer), optimizer


def same(cls, options, **more):
    fast, optimizer = trained(cls, options, "all", **more)
    text, _ = trained(cls, options, "numpy", **more)
    assert len(fast) == len(text)
    for a, b in zip(fast, text):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b, equal_nan=True)
    return optimizer


@pytest.mark.parametrize(("cls", "options"), ALL, ids=name)
def test_bit_for_bit(cls, options):
    assert fused(same(cls, options))


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
@pytest.mark.parametrize(("order", "gradients"), [("F", "F"), ("F", "C"), ("C", "F")])
def test_memory_orders(cls, options, order, gradients):
    same(cls, options, order=order, gradients=gradients)


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_parameters_that_are_not_contiguous_run_as_text(cls, options):
    results = []
    for tier in ("all", "text"):
        base = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
        before = base.copy()
        p = Parameter(base[:, ::2])
        optimizer = cls([p], **options)
        for step in range(3):
            give([p], step)
            with kernels.tier(tier):
                optimizer.step()
        assert not fused(optimizer)
        assert np.array_equal(base[:, 1::2], before[:, 1::2])
        results.append(p.numpy())
    assert np.array_equal(*results)


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_run_as_text(cls, options, dtype):
    results = []
    for tier in ("all", "text"):
        p = Parameter(np.linspace(-1, 1, 12).reshape(3, 4).astype(dtype))
        optimizer = cls([p], **options)
        for step in range(3):
            p.grad = Tensor(np.cos(np.arange(12.0) + step).reshape(3, 4).astype(dtype))
            with kernels.tier(tier):
                optimizer.step()
        assert not fused(optimizer)
        results.append(p.numpy())
    assert results[0].dtype == dtype
    assert np.array_equal(*results)


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_a_changing_learning_rate(cls, options):
    def between(optimizer, step):
        optimizer.param_groups[0]["lr"] *= 0.5
        return optimizer

    changed = same(cls, options, between=between)
    assert fused(changed)
    assert not np.array_equal(trained(cls, options, "all")[0][0], trained(cls, options, "all", between=between)[0][0])


def test_options_switched_on_and_off():
    """Another option needs another loop, and maybe more state."""
    settings = [{"weight_decay": 0.1}, {"momentum": 0.9}, {"nesterov": True}, {"maximize": True, "nesterov": False},
                {"momentum": 0.0, "weight_decay": 0.0}]

    def between(optimizer, step):
        optimizer.param_groups[0].update(settings[step])
        return optimizer

    assert fused(same(SGD, {"lr": 0.1}, steps=5, between=between))

    def more(optimizer, step):
        optimizer.param_groups[0].update([{"amsgrad": True}, {"weight_decay": 0.1}, {"maximize": True}, {}][step])
        return optimizer

    assert fused(same(AdamW, {"lr": 0.1}, between=more))


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_continued_from_a_state(cls, options):
    """A saved state, and one after tiers have taken turns, continues as if nothing had happened."""
    def reloaded(optimizer, step):
        new = cls(optimizer.param_groups[0]["params"], lr=123.0)
        new.load_state_dict(optimizer.state_dict())
        return new

    straight = trained(cls, options, "all")[0]
    again = trained(cls, options, "all", between=reloaded)[0]
    assert all(np.array_equal(a, b) for a, b in zip(straight, again))

    params = parameters()
    optimizer = cls(params, **options)
    for step, tier in enumerate(("all", "text", "all", "numpy")):
        give(params, step)
        with kernels.tier(tier):
            optimizer.step()
    assert all(np.array_equal(a, b) for a, b in zip(straight, everything(params, optimizer)))


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_a_deep_copy_goes_its_own_way(cls, options):
    params = parameters()
    optimizer = cls(params, **options)
    give(params, 0)
    optimizer.step()
    before = [a.copy() for a in everything(params, optimizer)]
    copied_params, copied = copy.deepcopy((params, optimizer))
    for step in (1, 2, 3):
        give(copied_params, step)
        copied.step()
    assert fused(copied)
    assert all(np.array_equal(a, b) for a, b in zip(before, everything(params, optimizer)))
    wanted = trained(cls, options, "text")[0]
    assert all(np.array_equal(a, b) for a, b in zip(everything(copied_params, copied), wanted))


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
def test_other_elements_in_a_parameter(cls, options):
    """A parameter that is rebound to new memory is updated there; the old memory is left alone."""
    results = []
    for tier in ("all", "text"):
        params = parameters()
        optimizer = cls(params, **options)
        for step in range(3):
            old = [p.data for p in params]
            kept = [a.copy() for a in old]
            for p in params:
                p.data = np.array(p.data * 2)
            give(params, step)
            with kernels.tier(tier):
                optimizer.step()
            assert all(np.array_equal(a, b) for a, b in zip(old, kept))
        results.append(everything(params, optimizer))
    assert all(np.array_equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize(("cls", "options"), SOME, ids=name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])
def test_bad_gradients_give_what_the_text_gives(cls, options, bad):
    results = []
    for tier in ("all", "text"):
        params = parameters()
        optimizer = cls(params, **options)
        for step in range(3):
            give(params, step)
            if step == 1:
                for p in params[:2]:
                    p.grad.data[2] = bad
            with kernels.tier(tier), np.errstate(all="ignore"):
                optimizer.step()
        results.append(everything(params, optimizer))
    for a, b in zip(*results):
        assert np.array_equal(a, b, equal_nan=True)
