"""Optimizers and clipping follow torch's, on a problem whose gradients depend on the way taken."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from minigrad import Parameter, Tensor, optim  # noqa: E402

STEPS = 100
SHAPES = ((4, 3), (3,), ())


def start(dtype):
    rng = np.random.default_rng(7)
    return [np.asfortranarray(rng.normal(size=shape).astype(dtype)) for shape in SHAPES]


def gradient(p, target, curvature, step):
    """Of ½·c·(p−t)² with a disturbance that changes from step to step; the same arithmetic for both frameworks."""
    return (curvature * (p - target) + 0.3 * np.sin(1.7 * step + 5.0 * target)).astype(p.dtype)


def both(name, dtype, options, lr):
    """The two optimizers and parameters after STEPS steps, with the largest relative distance on the way."""
    arrays = start(dtype)
    rng = np.random.default_rng(8)
    targets = [rng.normal(size=a.shape).astype(dtype) for a in arrays]
    curvatures = [rng.uniform(0.1, 1.5, size=a.shape).astype(dtype) for a in arrays]
    ours = [Parameter(a.copy(order="K")) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    our_optimizer = getattr(optim, name)(ours, lr=lr, **options)
    their_optimizer = getattr(torch.optim, name)(theirs, lr=lr, foreach=False, **options)
    worst = 0.0
    for step in range(STEPS):
        for i, (p, q) in enumerate(zip(ours, theirs)):
            if step % 7 == 3 and i == 1:  # one parameter misses some steps
                p.grad = q.grad = None
                continue
            p.grad = Tensor(gradient(p.data, targets[i], curvatures[i], step))
            q.grad = torch.tensor(gradient(q.detach().numpy(), targets[i], curvatures[i], step))
        our_optimizer.step()
        their_optimizer.step()
        worst = max(worst, *(distance(p.data, q.detach().numpy()) for p, q in zip(ours, theirs)))
    return our_optimizer, their_optimizer, worst


def distance(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def combinations(**choices):
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


SGD = [
    options
    for options in combinations(
        momentum=(0.0, 0.9), dampening=(0.0, 0.4), weight_decay=(0.0, 0.05), nesterov=(False, True),
        maximize=(False, True),
    )
    if not (options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0))
]
ADAM = combinations(
    betas=((0.9, 0.999), (0.6, 0.8), (0.0, 0.99)), eps=(1e-8, 1e-2), weight_decay=(0.0, 0.05),
    amsgrad=(False, True), maximize=(False, True),
)
CASES = [("SGD", o, 0.05) for o in SGD] + [(name, o, 0.02) for name in ("Adam", "AdamW") for o in ADAM]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("name", "options", "lr"), CASES, ids=[f"{n}-{o}" for n, o, _ in CASES])
def test_trajectory_and_state(name, options, lr, dtype):
    if options["maximize"]:
        lr = lr / 20  # away from the optimum the distance grows exponentially
    ours, theirs, worst = both(name, dtype, options, lr)
    assert worst < (1e-6 if dtype is np.float32 else 1e-13)
    saved, wanted = ours.state_dict(), theirs.state_dict()
    assert {i for i, state in wanted["state"].items() if state} == set(saved["state"])
    for i, state in saved["state"].items():
        there = {k: v for k, v in wanted["state"][i].items() if v is not None}
        assert set(state) == set(there)
        for key, value in state.items():
            assert distance(np.asarray(value), there[key].numpy()) < (1e-5 if dtype is np.float32 else 1e-12), key
    for mine, yours in zip(saved["param_groups"], wanted["param_groups"]):
        assert mine["params"] == yours["params"]
        assert {k: yours[k] for k in mine} == mine


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_defaults(name):
    ours = getattr(optim, name)([Parameter([1.0])]).param_groups[0]
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.ones(1))]).param_groups[0]
    assert {k: theirs[k] for k in ours if k != "params"} == {k: v for k, v in ours.items() if k != "params"}


def gradients(dtype, spoil=None):
    rng = np.random.default_rng(3)
    found = [rng.normal(size=shape).astype(dtype) for shape in SHAPES]
    if spoil is not None:
        found[0][1, 1] = spoil
    return found


def with_gradients(arrays):
    ours, theirs = [], []
    for array in arrays:
        p, q = Parameter(np.zeros_like(array)), torch.nn.Parameter(torch.tensor(np.zeros_like(array)))
        p.grad, q.grad = Tensor(array.copy()), torch.tensor(array)
        ours.append(p)
        theirs.append(q)
    return ours, theirs


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("order", [2.0, 1.0, 3.0, 0.5, math.inf])
@pytest.mark.parametrize("limit", [0.0, 0.1, 2.0, 1e6])
def test_clipping_by_norm(dtype, order, limit):
    ours, theirs = with_gradients(gradients(dtype))
    norm = optim.clip_grad_norm_(ours, limit, order)
    wanted = torch.nn.utils.clip_grad_norm_(theirs, limit, order)
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    assert norm.dtype == dtype
    assert abs(norm.item() / wanted.item() - 1) < tolerance
    for p, q in zip(ours, theirs):
        assert np.abs(p.grad.data - q.grad.numpy()).max() <= tolerance * np.abs(q.grad.numpy()).max()


@pytest.mark.parametrize("order", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("spoil", [math.inf, math.nan])
def test_clipping_by_a_norm_that_is_not_finite(order, spoil):
    ours, theirs = with_gradients(gradients(np.float32, spoil))
    with np.errstate(invalid="ignore"):
        norm = optim.clip_grad_norm_(ours, 1.0, order)
    assert str(norm.item()) == str(torch.nn.utils.clip_grad_norm_(theirs, 1.0, order).item())
    for p, q in zip(ours, theirs):
        assert np.array_equal(p.grad.data, q.grad.numpy(), equal_nan=True)
    ours, theirs = with_gradients(gradients(np.float32, spoil))
    with pytest.raises(ValueError, match="finite"):
        optim.clip_grad_norm_(ours, 1.0, order, error_if_nonfinite=True)
    with pytest.raises(RuntimeError, match="finite"):
        torch.nn.utils.clip_grad_norm_(theirs, 1.0, order, error_if_nonfinite=True)


def test_clipping_by_value():
    ours, theirs = with_gradients(gradients(np.float32, math.nan))
    optim.clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    for p, q in zip(ours, theirs):
        assert np.array_equal(p.grad.data, q.grad.numpy(), equal_nan=True)
