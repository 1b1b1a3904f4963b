"""Kernels against texts: a function's values and derivatives in float32 by kernels, and in float64 by the texts."""

import numpy as np

from minigrad import Tensor, grad, kernels


def derivatives(function, arrays, order=1, layout=lambda a: a, upstream=lambda g: g, device="cpu"):
    """The first output, its gradients, and at order 2 theirs, all as arrays of the inputs' dtype.

    `layout` is applied to every array and `upstream` to the output's gradient, after the cast that `arrays` had.
    """
    leaves = [Tensor(layout(a), True, device=device) for a in arrays]
    y = function(*leaves)
    y = y[0] if isinstance(y, tuple) else y
    rng = np.random.default_rng(9)
    g = Tensor(upstream(rng.standard_normal(y.shape).astype(y.dtype)), True, device=device)
    first = grad(y, leaves, g, create_graph=order > 1)
    found = [y, *first]
    if order > 1:
        cotangents = [Tensor(rng.standard_normal(t.shape).astype(t.dtype), device=device) for t in first]
        recorded = [(t, h) for t, h in zip(first, cotangents) if t.requires_grad]
        outs, hs = zip(*recorded)
        found += [t for t in grad(outs, [*leaves, g], hs, allow_unused=True) if t is not None]
    return [np.array(t.numpy()) for t in found]


def compare(function, arrays, tolerance, dtype=np.float32, device="cpu", **options):
    """Assert that kernels on a device, in float32 or a half type, give what the texts give in float64 from the same
    numbers.

    Errors are of the largest element of each result. Returns what the kernels gave.
    """
    narrow = [np.asarray(a, dtype) for a in arrays]
    with kernels.disabled():
        wanted = derivatives(function, [a.astype(np.float64) for a in narrow], **options)
    got = derivatives(function, narrow, device=device, **options)
    assert len(got) == len(wanted)
    for i, (a, b) in enumerate(zip(got, wanted)):
        assert a.shape == b.shape
        assert a.dtype == dtype
        if b.size:
            assert np.abs(a.astype(np.float64) - b).max() <= tolerance * max(np.abs(b).max(), 1e-30), f"result {i}"
    return got


def compare_with_parts(fused, composed, arrays):
    """One operation to order two: in float32 against its text, in float64 against the operations it joins."""
    for order in (1, 2):
        compare(fused, arrays, 1e-5, order=order)
        found, wanted = (derivatives(function, arrays, order=order) for function in (fused, composed))
        assert len(found) == len(wanted)
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11 * np.abs(b).max())


def runs_as_text(function, arrays, dtype, tolerance):
    """Assert that in another dtype kernels give the very bits of the texts, which are close to float64."""
    arrays = [a.astype(dtype) for a in arrays]
    with kernels.disabled():
        text = derivatives(function, arrays)
        wanted = derivatives(function, [a.astype(np.float64) for a in arrays])
    for a, b, c in zip(derivatives(function, arrays), text, wanted):
        assert np.array_equal(a, b)
        assert np.abs(a - c).max() <= tolerance * np.abs(c).max()
