"""BatchNorm with an activation as one operation: against the composition, to order three, and by compiled loops."""

import numpy as np
import pytest
from kernels_and_texts import compare, compare_with_parts, derivatives

import minigrad.functional as F
from minigrad import Tensor, kernels, ops
from minigrad.errors import ArgumentError
from minigrad.expansion import expand, prove_equal
from minigrad.gradcheck import check_gradients
from minigrad.graph import walk
from minigrad.kernels.compiled import loading
from minigrad.layers import BatchNorm1d, BatchNorm2d
from minigrad.ops.normalization_texts import ActivatedBatchNorm

FUNCTIONS = {"relu": ops.relu, "sigmoid": ops.sigmoid}
SHAPES = [(60, 33), (7, 3), (6, 4, 5, 7), (4, 3, 9), (2, 3, 2, 3, 4)]
both = pytest.mark.parametrize("activation", FUNCTIONS)


def draw(shape):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + 1, rng.standard_normal(shape[1]), rng.standard_normal(shape[1])]


def fused(activation):
    return lambda x, w=None, b=None: ops.batch_norm(x, w, b, activation=activation)[0]


def composed(activation):
    return lambda x, w=None, b=None: FUNCTIONS[activation](ops.batch_norm(x, w, b)[0])


@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("parameters", [3, 2, 1], ids=["affine", "weight alone", "plain"])
def test_kernels_and_the_composition(shape, parameters, activation):
    """In float32 (by loops where numba is) against the text; in float64 against two operations."""
    compare_with_parts(fused(activation), composed(activation), draw(shape)[:parameters])


@both
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("least", [0, 2**62], ids=["parallel", "serial"])
def test_loops_serve(shape, activation, least, monkeypatch):
    pytest.importorskip("numba")
    from minigrad.kernels.compiled import normalization

    monkeypatch.setattr(loading, "PARALLEL_FROM", least)
    monkeypatch.setattr(normalization, "STRIP", 16)
    compare(fused(activation), draw(shape), 3e-6)
    op = ActivatedBatchNorm((0, *range(2, len(shape))), (1, shape[1], *[1] * (len(shape) - 2)), 1e-5, activation)
    x, w, b = (a.astype(np.float32) for a in draw(shape))
    y, mean, variance, rstd = normalization.forward(op, x, w, b)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(op.axes, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(variance, wide.var(op.axes, keepdims=True), rtol=1e-6)
    saved, needs, gy = (x, w, mean, rstd, y), (True, True, True), np.ones_like(y)
    assert normalization.backward(op, saved, needs, gy, None, None, None) is not NotImplemented
    for refused in ((gy, mean, None, None), (None, mean, None, None), (gy.astype(np.float64), None, None, None)):
        assert normalization.backward(op, saved, needs, *refused) is NotImplemented
    assert normalization.forward(op, np.asfortranarray(x), w, b) is NotImplemented
    assert normalization.forward(op, x.astype(np.float64), w, b) is NotImplemented


@both
def test_gradients_of_the_statistics_too(activation):
    """All four outputs are used, to order two, against the composition."""
    def loss(norm):
        def run(x, w, b):
            y, mean, variance, rstd = norm(x, w, b)
            return y * 2 + mean * variance + rstd
        return run

    def separate(x, w, b):
        y, *statistics = ops.batch_norm(x, w, b)
        return FUNCTIONS[activation](y), *statistics

    one = loss(lambda x, w, b: ops.batch_norm(x, w, b, activation=activation))
    for a, b in zip(derivatives(one, draw((6, 3)), order=2), derivatives(loss(separate), draw((6, 3)), order=2)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * np.abs(b).max())
    compare(one, draw((6, 3)), 1e-5, order=2)


@both
def test_derivatives_to_order_three(activation):
    proof = prove_equal(fused(activation), *draw((5, 3)), orders=3, show=False)
    assert proof.equal
    check_gradients(fused(activation), draw((5, 2)), order=2)


@both
def test_one_node_that_opens_into_its_steps(activation):
    x, w, b = (Tensor(a, True) for a in draw((5, 3)))
    y = fused(activation)(x, w, b)
    assert [node.op.name for node in walk([y.edge])] == ["ActivatedBatchNorm"]
    opened = expand(y)
    names = [node.op.name for part in opened.parts for node in part.nodes]
    assert names[-1].lower() == activation, names
    assert len(names) > 5
    np.testing.assert_allclose(opened.outputs[0].numpy(), y.numpy(), rtol=1e-12)


@both
def test_functional_and_layer(activation):
    x, w, b = draw((6, 3, 4, 5))
    function = FUNCTIONS[activation]
    mean, variance = np.linspace(-1, 1, 3), np.linspace(1, 2, 3)
    for training in (True, False):
        found = F.batch_norm(x, mean, variance, w, b, training, activation=activation)
        wanted = function(F.batch_norm(x, mean, variance, w, b, training))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    one, two = BatchNorm2d(3, dtype=np.float64), BatchNorm2d(3, dtype=np.float64)
    for _ in range(2):
        for p in (one, two):
            p.weight.data, p.bias.data = w, b
        np.testing.assert_allclose(one(Tensor(x), activation=activation).numpy(), function(two(Tensor(x))).numpy(),
                                   rtol=1e-12, atol=1e-14)
        for buffer, other in zip(one.buffers(), two.buffers()):
            assert np.array_equal(buffer.numpy(), other.numpy())
        one.eval(), two.eval()


def test_refusals():
    x = np.ones((4, 3), np.float32)
    layer = BatchNorm1d(3)
    before = layer.state_dict()
    for call in (lambda a, **k: ops.batch_norm(x, activation=a, **k),
                 lambda a, **k: layer(Tensor(x), activation=a, **k),
                 lambda a, **k: F.batch_norm(x, None, None, training=True, activation=a, **k),
                 lambda a, **k: ops.batch_norm_inference(x, x[0], x[0], activation=a, **k)):
        with pytest.raises(ArgumentError, match=r"activation='tanh'.*'?relu'?, '?sigmoid"):
            call("tanh")
        with pytest.raises(ArgumentError, match="mask"):
            call("relu", mask=np.ones(4, bool))
    assert all(np.array_equal(a, b) for a, b in zip(before.values(), layer.state_dict().values()))


@both
@pytest.mark.parametrize("shape", [(12, 4), (3, 4, 5, 6)], ids=str)
def test_bad_numbers_stay_in_their_channel(shape, activation):
    x, w, b = (a.astype(np.float32) for a in draw(shape))
    x[(1, 2, *[0] * (len(shape) - 2))] = np.nan
    y, gx, gw, _ = derivatives(fused(activation), [x, w, b])
    for a in (y, gx):
        assert np.isnan(a).any(axis=(0, *range(2, len(shape)))).tolist() == [False, False, True, False]
    assert np.isnan(gw).tolist() == [False, False, True, False]
    with kernels.disabled():
        for a, c in zip((y, gx, gw), derivatives(fused(activation), [x, w, b])):
            assert np.array_equal(np.isnan(a), np.isnan(c))


@both
def test_scores_far_out(activation):
    """x̂·γ of ±1e4: the sigmoid is 0 or 1 there, and gradients that overflow through nothing are 0."""
    x, w, b = draw((50, 4))
    compare(fused(activation), [x, w * 1e4, b], 1e-5 if activation == "relu" else 2e-4)
