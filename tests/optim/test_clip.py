"""Gradient clipping against norms of the concatenated gradients; and that no array is ever scaled in place."""

import math

import numpy as np
import pytest

from minigrad import Parameter, Tensor
from minigrad.backend import cuda_problem
from minigrad.errors import ArgumentError, DtypeError
from minigrad.layers import Linear
from minigrad.optim import clip_grad_norm_, clip_grad_value_


def with_gradients(*arrays):
    found = []
    for array in arrays:
        p = Parameter(np.zeros_like(array))
        p.grad = Tensor(array)
        found.append(p)
    return found


def arrays(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(dtype) for shape in ((4, 3), (5,), (), (0, 2))]


def flat(ps):
    return np.concatenate([p.grad.numpy().ravel() for p in ps])


@pytest.mark.parametrize("order", [2.0, 1, 3.5, 0.5, math.inf])
@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9, math.inf])
def test_the_norm_and_the_scaled_gradients(order, limit):
    ps = with_gradients(*arrays())
    before = flat(ps)
    norm = np.abs(before).max() if order == math.inf else (np.abs(before) ** order).sum() ** (1 / order)
    total = clip_grad_norm_(ps, limit, order)
    assert isinstance(total, Tensor)
    assert total.shape == ()
    assert abs(total.item() - norm) < 1e-14 * norm * 10
    wanted = before * min(1.0, limit / (norm + 1e-6))
    assert np.abs(flat(ps) - wanted).max() <= 1e-14
    if limit >= norm:
        assert np.array_equal(flat(ps), before)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize(
    ("clip", "wanted"),
    [
        (lambda ps: clip_grad_norm_(ps, 1.0), 5.0 / (math.sqrt(6 * 25.0) + 1e-6)),
        (lambda ps: clip_grad_value_(ps, 1.0), 1.0),
    ],
)
def test_two_parameters_may_share_one_array_of_gradients(clip, wanted, recorded):
    p, q = Parameter(np.full(3, 2.0)), Parameter(np.full(3, 3.0))
    shared = np.full(3, 5.0)
    if recorded:
        (p + q).backward(shared)
    else:
        p.grad, q.grad = Tensor(shared), Tensor(shared[::-1])
    clip([p, q])
    assert np.allclose(p.grad.data, np.full(3, wanted), rtol=1e-14, atol=0)
    assert np.array_equal(p.grad.data, q.grad.data)
    assert np.array_equal(shared, np.full(3, 5.0))


def test_arrays_that_others_hold_stay_as_they_are():
    array = np.full(4, 10.0)
    (p,) = with_gradients(array)
    clip_grad_norm_([p], 1.0)
    clip_grad_value_([p], 0.1)
    assert np.array_equal(array, np.full(4, 10.0))
    assert np.array_equal(p.grad.data, np.full(4, 0.1))


def test_one_tensor_duplicates_and_missing_gradients():
    p, q = with_gradients(np.array([3.0]), np.array([4.0]))
    assert clip_grad_norm_(p, 100.0).item() == 3.0
    assert clip_grad_norm_([p, q, p, Parameter([1.0])], 1.0).item() == 5.0
    assert abs(p.grad.item() - 0.6) < 1e-6
    q.grad = p.grad = None
    assert clip_grad_norm_(iter([p, q]), 1.0).item() == 0.0
    clip_grad_value_([p, q], 1.0)
    assert p.grad is None


@pytest.mark.parametrize("order", [2.0, 1.0, math.inf])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_norms_that_are_not_finite(order, bad):
    ps = with_gradients(np.array([1.0, bad]), np.array([2.0]))
    before = flat(ps)
    with pytest.raises(ArgumentError, match="finite norm"):
        clip_grad_norm_(ps, 1.0, order, error_if_nonfinite=True)
    assert np.array_equal(flat(ps), before, equal_nan=True)
    with np.errstate(invalid="ignore"):
        total = clip_grad_norm_(ps, 1.0, order)
    assert str(total.item()) == str(bad)
    after = flat(ps)
    assert np.isnan(after).all() if math.isnan(bad) else (np.isnan(after[1]) and after[0] == after[2] == 0)


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("order", [2.0, 3.0])
def test_a_norm_is_right_where_its_powers_leave_the_dtype(size, order):
    ps = with_gradients(*(np.full(n, size, np.float32) for n in (9, 16)))
    wanted = size * 25 ** (1 / order)
    assert abs(clip_grad_norm_(ps, 1.0, order).item() / wanted - 1) < 1e-6


def test_half_precision_is_summed_and_scaled_in_float32():
    array = np.full(40_000, 2.0, np.float16)  # the squares sum to 160,000, more than float16 holds
    ps = with_gradients(array)
    total = clip_grad_norm_(ps, 100.0)
    assert total.dtype == np.float32
    assert total.item() == 400.0
    assert ps[0].grad.dtype == np.float16
    assert np.array_equal(ps[0].grad.data, np.full(40_000, 0.5, np.float16))


def test_values_are_clipped_and_nan_stays():
    ps = with_gradients(np.array([-3.0, 0.25, math.nan, math.inf]), np.array(7.0, np.float32))
    clip_grad_value_(ps, 0.5)
    assert np.array_equal(ps[0].grad.data, [-0.5, 0.25, math.nan, 0.5], equal_nan=True)
    assert ps[1].grad.dtype == np.float32
    assert ps[1].grad.item() == 0.5


def test_memory_order_of_gradients_is_kept():
    (p,) = with_gradients(np.asfortranarray(np.ones((3, 4))))
    clip_grad_norm_([p], 0.5)
    assert p.grad.data.flags.f_contiguous


@pytest.mark.parametrize("value", [-1.0, math.nan, "1"])
def test_limits_that_are_refused(value):
    ps = with_gradients(np.ones(2))
    for clip in (clip_grad_norm_, clip_grad_value_):
        with pytest.raises((ArgumentError, DtypeError), match=r"clip_grad_.*_: got"):
            clip(ps, value)
    for order in (0, -1.0, math.nan, "fro"):
        with pytest.raises((ArgumentError, DtypeError), match="norm_type"):
            clip_grad_norm_(ps, 1.0, order)


def test_what_is_no_tensor_is_refused():
    (p,) = with_gradients(np.ones(2))
    with pytest.raises(DtypeError, match="ndarray"):
        clip_grad_norm_([p, np.ones(2)], 1.0)
    with pytest.raises(DtypeError, match=r"model\.parameters\(\)"):
        clip_grad_norm_(Linear(1, 1), 1.0)
    p.grad = np.ones(2)
    with pytest.raises(DtypeError, match="a gradient of type ndarray"):
        clip_grad_value_([p], 1.0)


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=cuda_problem())
def test_cupy_arrays():
    import cupy

    ours = with_gradients(*arrays(np.float32))
    theirs = with_gradients(*arrays(np.float32))
    for p in theirs:
        p.data, p.grad = cupy.asarray(p.data), Tensor(cupy.asarray(p.grad.data))
    for order in (2.0, 3.0, math.inf):
        ours_norm, norm = clip_grad_norm_(ours, 0.5, order), clip_grad_norm_(theirs, 0.5, order)
        assert norm.device.type == "cuda"
        assert abs(norm.item() / ours_norm.item() - 1) < 1e-6
    clip_grad_value_(ours, 0.05)
    clip_grad_value_(theirs, 0.05)
    for p, q in zip(ours, theirs):
        assert q.grad.device.type == "cuda"
        assert np.allclose(p.grad.data, q.grad.numpy(), rtol=1e-6, atol=0)
