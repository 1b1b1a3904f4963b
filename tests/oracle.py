"""Comparison with PyTorch: one call made with both, values and derivatives of first and second order in float64."""

import numpy as np
import torch

import minigrad
from minigrad import Tensor

TOLERANCE = 1e-7  # relative to the largest element, or to 1e-6 where all are smaller: rounding of what should be 0


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def strided(array):
    """The same elements, every second one in memory and the last axis outermost."""
    if not array.ndim:
        return array
    wide = np.zeros((2 * array.shape[-1], *array.shape[:-1]), array.dtype)
    view = np.moveaxis(wide[::2], 0, -1)
    view[...] = array
    return view


def flat(result):
    """What a function returned, as a list of Tensors; None is left out."""
    if result is None:
        return []
    return [t for part in result for t in flat(part)] if isinstance(result, (tuple, list)) else [result]


def close(ours, theirs, what):
    a, b = ours.numpy(), theirs.numpy(force=True)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, wanted {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtype {a.dtype}, wanted {b.dtype}"
    assert np.array_equal(np.isfinite(a), np.isfinite(b)), what
    if b.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return 0.0
    np.testing.assert_array_equal(a[~np.isfinite(a)], b[~np.isfinite(b)], err_msg=what)
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    difference, scale = float(np.max(np.abs(a - b), initial=0)), max(float(np.max(np.abs(b), initial=0)), 1e-6)
    assert difference <= TOLERANCE * scale, what
    return difference / scale


def gradients(grad, outputs, leaves, tensor, seed):
    """Of Σ outputs·u, u random, with a graph; 0 for what they do not depend on."""
    live = [(y, tensor(draw(*y.shape, seed=seed + i))) for i, y in enumerate(outputs) if y.requires_grad]
    if not live:
        return [tensor(np.zeros(tuple(x.shape))) for x in leaves]
    found = grad([y for y, _ in live], leaves, [u for _, u in live], create_graph=True, allow_unused=True)
    return [tensor(np.zeros(tuple(x.shape))) if g is None else g for x, g in zip(leaves, found)]


def agree(ours, theirs, arrays, parameters=((), ()), orders=2, layout=None):
    """Assert that both functions give the same for these arrays, and the same derivatives.

    Derivatives are with respect to floating-point arrays and to further leaves, `parameters` = (ours, torch's). Gives
    the relative errors: of the results, and of the derivatives order by order.
    """
    arrays = [np.asarray(a) if layout is None else layout(np.asarray(a)) for a in arrays]
    copies = [a.copy() for a in arrays]
    mine = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    wanted = [torch.from_numpy(a).requires_grad_(a.dtype.kind == "f") for a in arrays]
    found, expected = flat(ours(*mine)), flat(theirs(*wanted))
    assert len(found) == len(expected)
    errors = [max([close(y, z, f"output {i}") for i, (y, z) in enumerate(zip(found, expected))], default=0.0)]
    for a, before in zip(arrays, copies):
        np.testing.assert_array_equal(a, before)
    my_leaves = [*(x for x in mine if x.requires_grad), *parameters[0]]
    leaves = [*(x for x in wanted if x.requires_grad), *parameters[1]]
    for order in range(1, orders + 1):
        found = gradients(minigrad.grad, found, my_leaves, Tensor, order)
        expected = gradients(torch.autograd.grad, expected, leaves, torch.tensor, order)
        scale = max([1e-6, *(float(g.detach().abs().nan_to_num(0, 0, 0).max()) for g in expected if g.numel())])
        errors.append(0.0)
        for i, (g, h) in enumerate(zip(found, expected)):
            if order == 1:
                error = close(g, h, f"gradient of leaf {i}")
            else:
                error = float(np.max(np.abs(g.numpy() - h.numpy(force=True)), initial=0)) / scale
                assert error <= TOLERANCE, f"order {order}, leaf {i}"
            errors[-1] = max(errors[-1], error)
    return errors


def agree_row(row):
    """`agree` for a row of `layer_cases`, whose torch counterpart has the same arguments, and for layers its values."""
    name = row.like or row.name
    args, options = row.arguments(torch.nn, torch.tensor)
    if not row.is_layer:
        theirs = getattr(torch.nn.functional, name)
        mine, given = row.arguments(None, lambda a: a)
        ours = getattr(minigrad.functional, row.name)
        return agree(lambda *xs: ours(*xs, *mine, **given), lambda *xs: theirs(*xs, *args, **options), row.draw(),
                     orders=row.order)
    layer, theirs = row.made(), getattr(torch.nn, name)(*args, **options).double()
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()})
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return agree(layer, theirs, row.draw(), (list(layer.parameters()), list(theirs.parameters())), row.order)


def same(ours, theirs, *arrays, orders=2):
    """`agree` for arrays given one by one."""
    agree(ours, theirs, arrays, orders=orders)
