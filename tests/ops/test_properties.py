"""Properties of every operation, on calls drawn at random: shapes, axes, options, dtypes, memory layouts."""

import numpy as np
import pytest
from cases import as_tuple, relative
from families import ROWS, call_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import Tensor, ops

TOLERANCE = {np.float64: 1e-11, np.float32: 1e-4, np.float16: 2e-2}
QUICK = settings(max_examples=12, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large])


def strided(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype) if a.ndim else a.copy()
    view = wide[..., ::2] if a.ndim else wide
    view[...] = a
    return view


LAYOUTS = {"c": lambda a: a.copy(order="C"), "fortran": lambda a: np.array(a, order="F"), "strided": strided,
           "reversed": lambda a: np.asarray(np.flip(np.flip(a).copy())), "as drawn": lambda a: a}


def laid_out(draw, arrays):
    made = [LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](a) for a in arrays]
    for a in made:
        a.flags.writeable = False  # any write into an argument is an error
    return made


@pytest.mark.parametrize("name", sorted(ROWS))
@QUICK
@given(st.data())
def test_values(name, data):
    """Against NumPy in float64, on arrays as on Tensors; nothing is written to."""
    call, arrays, reference = call_of(data.draw, name)
    dtype = data.draw(st.sampled_from(list(TOLERANCE)))
    arrays = laid_out(data.draw, [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays])
    found = as_tuple(call(*arrays))
    wanted = as_tuple(reference(*(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays)))
    assert len(found) == len(wanted)
    for y, z in zip(found, wanted):
        if not name.startswith("arg"):  # where rounding makes equal what was not, another place is as good
            assert relative(y, z) <= TOLERANCE[dtype]
        assert np.shape(y) == np.shape(z)
    for y, z in zip(as_tuple(call(*map(Tensor, arrays))), found):
        np.testing.assert_array_equal(y.numpy(), z)


DIFFERENTIABLE = sorted(name for name, rows in ROWS.items() if rows[0].order)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@QUICK
@given(st.data())
def test_gradients(name, data):
    """⟨gradient, v⟩ is the derivative along v, by differences of fourth order; the second likewise."""
    call, arrays, _ = call_of(data.draw, name)
    arrays = laid_out(data.draw, arrays)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    along = [rng.normal(size=a.shape) / max(a.size, 1) ** 0.5 if a.dtype.kind == "f" else None for a in arrays]

    def at(h):
        return [a if v is None else Tensor(a + h * v, requires_grad=True) for a, v in zip(arrays, along)]

    def outputs(h):
        return [y for y in as_tuple(call(*at(h))) if y.requires_grad]

    weights = [rng.normal(size=y.shape) for y in outputs(0.0)]

    def value(h):
        return sum(float(np.sum(u * y.numpy())) for u, y in zip(weights, outputs(h)))

    def slope(h):
        xs = at(h)
        leaves = [x for x in xs if isinstance(x, Tensor)]
        ys = [y for y in as_tuple(call(*xs)) if y.requires_grad]
        found = mg.grad(ys, leaves, [Tensor(u) for u in weights], allow_unused=True)
        assert all(g is None or (g.shape, g.dtype) == (x.shape, x.dtype) for g, x in zip(found, leaves))
        return sum(float(np.sum(g.numpy() * v)) for g, v in zip(found, (v for v in along if v is not None))
                   if g is not None)

    if not weights:
        return
    h = 1e-4
    for function, exact in ((value, slope(0.0)), (slope, _second(at(0.0), call, weights, along))):
        numeric = (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)
        assert abs(numeric - exact) <= 1e-6 * max(1.0, abs(numeric), abs(exact))


def _second(xs, call, weights, along):
    leaves = [x for x in xs if isinstance(x, Tensor)]
    ys = [y for y in as_tuple(call(*xs)) if y.requires_grad]
    found = mg.grad(ys, leaves, [Tensor(u) for u in weights], True, allow_unused=True)
    vs = [v for v in along if v is not None]
    live = [(g, Tensor(v)) for g, v in zip(found, vs) if g is not None and g.requires_grad]
    if not live:
        return 0.0
    again = mg.grad([g for g, _ in live], leaves, [v for _, v in live], allow_unused=True)
    return sum(float(np.sum(g.numpy() * v)) for g, v in zip(again, vs) if g is not None)


def test_every_operation_is_drawn():
    assert set(ROWS) <= set(ops.__all__)
