"""The same call in minigrad and in PyTorch: values, gradients and gradients of gradients, in float64."""

import numpy as np
from cases import as_tuple, relative

import minigrad as mg
from minigrad import Tensor


def same(ours, theirs, *arrays, tolerance=1e-7, orders=2):
    """Compare two functions of the same arrays; the floating-point ones are differentiated.

    The cotangents are random, and drawn alike for both. A gradient that is absent counts as 0.
    """
    import torch

    xs = [Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]
    ts = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    ys, zs = as_tuple(ours(*xs)), as_tuple(theirs(*ts))
    assert [y.requires_grad for y in ys] == [z.requires_grad for z in zs]
    shapes = [y.shape for y in ys]
    _compare("value", ys, zs, shapes, tolerance)
    xs, ts = [x for x in xs if x.requires_grad], [t for t in ts if t.requires_grad]
    for order in range(1, orders + 1):
        rng = np.random.default_rng(order)
        us = [rng.normal(size=shape) for shape in shapes]
        ys = _gradients(mg.grad, ys, xs, us)
        zs = _gradients(torch.autograd.grad, zs, ts, [torch.tensor(u) for u in us])
        shapes = [x.shape for x in xs]
        _compare(f"order {order}", ys, zs, shapes, tolerance)


def _gradients(grad, ys, xs, us):
    live = [(y, u) for y, u in zip(ys, us, strict=True) if y is not None and y.requires_grad]
    if not live:
        return [None] * len(xs)
    ys, us = zip(*live)
    return grad(ys, xs, us, create_graph=True, allow_unused=True)


def _compare(what, found, wanted, shapes, tolerance):
    for k, (f, w, shape) in enumerate(zip(found, wanted, shapes, strict=True)):
        f = np.zeros(shape) if f is None else np.asarray(f)
        w = np.zeros(shape) if w is None else w.numpy(force=True)
        assert f.shape == w.shape
        nothing = np.abs(w).max(initial=0) < 1e-12  # 0 but for rounding: an absolute error then
        error = np.abs(f - w).max(initial=0) if nothing else relative(f, w)
        assert error <= tolerance, f"{what} {k}: {error:.2e}"
