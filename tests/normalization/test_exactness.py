"""Orders 1 to 4 of every member, in training and evaluation, against compositions and finite differences."""

import numpy as np
import pytest
from cases import relative

import minigrad as mg
from minigrad import Tensor, layers, ops
from minigrad.gradcheck import check_gradients
from minigrad.op import apply
from minigrad.ops.local_response import LocalResponseNorm
from minigrad.ops.normalization_texts import GroupNorm, RMSNorm

BOUND = 1e-7
EPS = 0.05
RNG = np.random.default_rng(11)


def composed(x, w, b, axes, shape, centred=True, mask=None):
    """A normalization out of primitives alone, in the most literal way."""
    count = 1 if mask is None else ops.sum(ops.cast(np.broadcast_to(mask, x.shape), x.dtype), axes, True)

    def average(a):
        return ops.mean(a, axes, True) if mask is None else ops.sum(ops.where(mask, a, 0.0), axes, True) / count

    d = x - average(x) if centred else x
    y = d / ops.sqrt(average(d * d) + EPS)
    y = y if w is None else y * ops.reshape(w, shape)
    y = y if b is None else y + ops.reshape(b, shape)
    return y if mask is None else ops.where(mask, y, 0.0)


def grouped(x, w, b):
    view = ops.reshape(x, (x.shape[0], 2, 2, *x.shape[2:]))
    y = ops.reshape(composed(view, None, None, (2, 3), None), x.shape)
    y = y if w is None else y * ops.reshape(w, (1, -1, 1))
    return y if b is None else y + ops.reshape(b, (1, -1, 1))


def evaluated(x, w, b):
    y = (x - ops.reshape(Tensor(MEAN), (1, -1, 1))) / ops.sqrt(ops.reshape(Tensor(VARIANCE), (1, -1, 1)) + EPS)
    y = y if w is None else y * ops.reshape(w, (1, -1, 1))
    return y if b is None else y + ops.reshape(b, (1, -1, 1))


def local_response(x):
    """Channel by channel, over the neighbours that exist."""
    channels = [x[:, c : c + 1] for c in range(x.shape[1])]
    out = []
    for c, channel in enumerate(channels):
        near = channels[max(0, c - 1) : c + 2]
        energy = sum((n * n for n in near[1:]), near[0] * near[0]) * (2.0 / 3) + 1.5
        out.append(channel / ops.power(energy, 0.75))
    return ops.concat(out, 1)


MEAN, VARIANCE = RNG.normal(size=4), RNG.uniform(0.5, 2, 4)
MASK = np.array([[True, True, False], [True, False, False]])
FEATURES = np.array([True, False, True])
CHANNELS, PLACES = (4,), (3,)
# name: (the operation, the same out of primitives, shape of x, shape of the parameters)
MEMBERS = {
    "batch": (lambda x, w, b: ops.batch_norm(x, w, b, EPS)[0],
              lambda x, w, b: composed(x, w, b, (0, 2), (1, -1, 1)), (2, 4, 3), CHANNELS),
    "batch features": (lambda x, w, b: ops.batch_norm(x, w, b, EPS)[0],
                       lambda x, w, b: composed(x, w, b, (0,), (1, -1)), (6, 4), CHANNELS),
    "batch evaluated": (lambda x, w, b: ops.batch_norm_inference(x, Tensor(MEAN), Tensor(VARIANCE), w, b, EPS),
                        evaluated, (2, 4, 3), CHANNELS),
    "batch masked": (lambda x, w, b: ops.batch_norm(x, w, b, EPS, MASK)[0],
                     lambda x, w, b: composed(x, w, b, (0, 2), (1, -1, 1), mask=MASK[:, None]), (2, 4, 3), CHANNELS),
    "layer": (lambda x, w, b: ops.layer_norm(x, (4, 3), w, b, EPS),
              lambda x, w, b: composed(x, w, b, (1, 2), (4, 3)), (2, 4, 3), (4, 3)),
    "layer masked": (lambda x, w, b: ops.layer_norm(x, (3,), w, b, EPS, FEATURES.reshape(1, 1, 3)),
                     lambda x, w, b: composed(x, w, b, (2,), (3,), mask=FEATURES.reshape(1, 1, 3)), (2, 4, 3), PLACES),
    "group": (lambda x, w, b: ops.group_norm(x, 2, w, b, EPS), grouped, (2, 4, 3), CHANNELS),
    "instance": (lambda x, w, b: ops.instance_norm(x, w, b, EPS)[0],
                 lambda x, w, b: composed(x, w, b, (2,), (1, -1, 1)), (2, 4, 3), CHANNELS),
    "rms": (lambda x, w, b: ops.rms_norm(x, 3, w, EPS),
            lambda x, w, b: composed(x, w, None, (2,), (3,), centred=False), (2, 4, 3), PLACES),
    "local response": (lambda x, w, b: ops.local_response_norm(x, 3, 2.0, 0.75, 1.5), lambda x, w, b: local_response(x),
                       (2, 4, 3), None),
}
WEIGHTS = {"affine": 1.0, "gamma 0": 0.0, "not affine": None}


def arguments(name, weight, seed=3):
    """x, γ and β; γ and β None where there are none."""
    rng = np.random.default_rng(seed)
    _, _, shape, parameter = MEMBERS[name]
    x = rng.normal(size=shape) * 1.5 + 0.5
    if parameter is None or WEIGHTS[weight] is None:
        return x, None, None
    return x, rng.normal(size=parameter) * WEIGHTS[weight], rng.normal(size=parameter)


COMBINATIONS = [(name, weight) for name in MEMBERS for weight in WEIGHTS
                if MEMBERS[name][3] is not None or weight == "not affine"]


def derivatives(function, arrays, order, seed=5):
    """y and, order by order, the gradients of all arguments of ⟨u, the level before⟩, u random."""
    rng = np.random.default_rng(seed)
    leaves = [None if a is None else Tensor(a, requires_grad=True) for a in arrays]
    live = [leaf for leaf in leaves if leaf is not None]
    level = [function(*leaves)]
    found = [[level[0].numpy()]]
    for _ in range(order):
        ys = [(y, rng.normal(size=y.shape)) for y in level]
        used = [(y, u) for y, u in ys if y.requires_grad]
        if not used:
            found.append([np.zeros(leaf.shape) for leaf in live])
            level = [leaf.zeros_like() for leaf in live]
            continue
        grads = mg.grad([y for y, _ in used], live, [u for _, u in used], create_graph=True, allow_unused=True)
        level = [leaf.zeros_like() if g is None else g for g, leaf in zip(grads, live)]
        found.append([g.numpy() for g in level])
    return found


@pytest.mark.parametrize(("name", "weight"), COMBINATIONS)
def test_orders_0_to_4_are_those_of_the_composition(name, weight):
    fused, primitive, _, _ = MEMBERS[name]
    arrays = arguments(name, weight)
    for order, (found, wanted) in enumerate(zip(derivatives(fused, arrays, 4), derivatives(primitive, arrays, 4))):
        scale = max(np.abs(w).max() for w in wanted) or 1.0
        for f, w in zip(found, wanted):
            assert np.abs(f - w).max() / scale <= BOUND / 1e3, f"order {order}"


@pytest.mark.parametrize(("name", "weight"), COMBINATIONS)
def test_orders_1_to_4_are_those_of_finite_differences(name, weight):
    fused = MEMBERS[name][0]
    errors = check_gradients(fused, arguments(name, weight), 4, elements=3, rtol=BOUND)
    assert len(errors) == 4
    assert max(errors) <= BOUND


def nested(function, x, v, u):
    """jvp∘jvp: the second derivative of a function along v and u."""
    def inner(z):
        return mg.jvp(function, z, Tensor(v), create_graph=True)[1]

    return mg.jvp(inner, Tensor(x), Tensor(u))[1].numpy()


@pytest.mark.parametrize(("name", "weight"), COMBINATIONS)
def test_nested_jvp(name, weight):
    fused, primitive, shape, _ = MEMBERS[name]
    x, w, b = arguments(name, weight)
    w, b = (None if a is None else Tensor(a) for a in (w, b))
    rng = np.random.default_rng(8)
    v, u = rng.normal(size=shape), rng.normal(size=shape)
    found = nested(lambda z: fused(z, w, b), x, v, u)
    wanted = nested(lambda z: primitive(z, w, b), x, v, u)
    assert np.abs(found - wanted).max() <= BOUND / 1e3 * max(1.0, np.abs(wanted).max())

    h = 1e-3  # and against the second difference of values, of fourth order

    def at(s, t):
        return np.asarray(fused(x + s * h * v + t * h * u, *(None if a is None else a.numpy() for a in (w, b))))

    def along_u(s):
        return (8 * (at(s, 1) - at(s, -1)) - (at(s, 2) - at(s, -2))) / (12 * h)

    numeric = (8 * (along_u(1) - along_u(-1)) - (along_u(2) - along_u(-2))) / (12 * h)
    assert np.abs(found - numeric).max() <= BOUND * max(1.0, np.abs(numeric).max())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("layer", "shape"), [
    (lambda: layers.BatchNorm1d(3, dtype=np.float64), (5, 3)),
    (lambda: layers.BatchNorm3d(2, dtype=np.float64), (2, 2, 1, 2, 2)),
    (lambda: layers.InstanceNorm1d(2, affine=True, track_running_stats=True, dtype=np.float64), (2, 2, 4)),
    (lambda: layers.GroupNorm(2, 4, dtype=np.float64), (2, 4, 2)),
    (lambda: layers.LayerNorm((2, 3), dtype=np.float64), (2, 2, 3)),
    (lambda: layers.RMSNorm(4, dtype=np.float64), (3, 4)),
    (lambda: layers.LocalResponseNorm(2, 1.0), (2, 4)),
], ids=["batch1d", "batch3d", "instance", "group", "layer", "rms", "local response"])
def test_layers_to_order_four(layer, shape, training):
    layer = layer()
    x = np.random.default_rng(2).normal(size=shape)
    if isinstance(layer, layers.batch_norm.Tracked):
        layer(Tensor(x))
        with layers.frozen_statistics():  # the checker calls hundreds of times; the buffers must not wander under it
            check_gradients(layer.train(training), x, 4, elements=4, rtol=BOUND)
    else:
        check_gradients(layer.train(training), x, 4, elements=4, rtol=BOUND)


def test_all_outputs_of_every_member_may_be_differentiated():
    """Gradients that arrive at the statistics, alone and together."""
    rng = np.random.default_rng(4)
    x, w, b = rng.normal(size=(3, 2, 4)), rng.normal(size=2), rng.normal(size=2)
    mask = np.array([[True, True, False, True], [True, False, False, True], [True] * 4])
    check_gradients(lambda x, w, b: ops.batch_norm(x, w, b, EPS, mask), (x, w, b), 3, elements=6, rtol=BOUND)
    check_gradients(lambda x, w, b: ops.instance_norm(x, w, b, EPS), (x, w, b), 3, elements=6, rtol=BOUND)
    check_gradients(lambda x, w: apply(RMSNorm((2,), (4,), EPS), x, w, None), (x, rng.normal(size=4)), 3, rtol=BOUND,
                    elements=6)
    check_gradients(lambda x: apply(GroupNorm((2,), (1, 2, 1), EPS), x, None, None), x, 3, rtol=BOUND, elements=6)
    check_gradients(lambda x: apply(LocalResponseNorm(2, 1.0, 0.75, 1.0), x), x, 3, rtol=BOUND, elements=6)


@pytest.mark.parametrize("name", MEMBERS)
def test_forward_and_backward_on_arrays_are_those_on_tensors(name):
    """The pass on arrays, which kernels may serve, and the recorded one give the same first derivative."""
    fused = MEMBERS[name][0]
    leaves = [None if a is None else Tensor(a, requires_grad=True) for a in arguments(name, "affine")]
    live = [leaf for leaf in leaves if leaf is not None]
    y = fused(*leaves)
    u = RNG.normal(size=y.shape)
    used = {"allow_unused": True, "retain_graph": True}
    for a, b in zip(mg.grad(y, live, u, **used), mg.grad(y, live, u, create_graph=True, **used)):
        assert (a is None) == (b is None)
        assert a is None or relative(a.numpy(), b.numpy()) <= 1e-13
