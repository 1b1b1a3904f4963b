"""BatchNorm, a residual and an activation as one operation: against three, to order three, and by layers."""

import itertools

import numpy as np
import pytest
from kernels_and_texts import compare_with_parts, derivatives

import minigrad.functional as F
from minigrad import Tensor, grad, kernels, layers, ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.expansion import expand, prove_equal
from minigrad.gradcheck import check_gradients
from minigrad.graph import walk

FUNCTIONS = {"relu": ops.relu, "sigmoid": ops.sigmoid}
SHAPES = [(60, 33), (6, 4, 5, 7), (4, 3, 9)]
both = pytest.mark.parametrize("activation", FUNCTIONS)


def draw(shape):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) + 1, rng.standard_normal(shape[1]), rng.standard_normal(shape[1]),
            rng.standard_normal(shape)]


def fused(activation):
    return lambda x, w, b, z: ops.batch_norm(x, w, b, activation=activation, residual=z)


def composed(activation):
    def run(x, w, b, z):
        y, *statistics = ops.batch_norm(x, w, b)
        return FUNCTIONS[activation](y + z), *statistics

    return run


@both
@pytest.mark.parametrize("tier", ["text", "numpy", "compiled"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_composition(shape, tier, activation):
    """In float32 against the text in float64; in float64 against three operations."""
    with kernels.tier(tier):
        compare_with_parts(fused(activation), composed(activation), draw(shape))


@both
def test_gradients_of_the_statistics_too(activation):
    """All four outputs are used, to order two."""
    def loss(norm):
        def run(*arrays):
            y, mean, variance, rstd = norm(*arrays)
            return y * 2 + mean * variance + rstd
        return run

    one, three = loss(fused(activation)), loss(composed(activation))
    for a, b in zip(derivatives(one, draw((6, 3)), order=2), derivatives(three, draw((6, 3)), order=2)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * np.abs(b).max())


@both
def test_derivatives_to_order_three(activation):
    def first(*arrays):
        return fused(activation)(*arrays)[0]

    assert prove_equal(first, *draw((5, 3)), orders=3, show=False).equal
    check_gradients(first, draw((5, 2)), order=2)


@both
def test_one_node_that_opens_into_its_steps(activation):
    tensors = [Tensor(a, True) for a in draw((5, 3))]
    y = fused(activation)(*tensors)[0]
    assert [node.op.name for node in walk([y.edge])] == ["ResidualBatchNorm"]
    opened = expand(y)
    names = [node.op.name for part in opened.parts for node in part.nodes]
    assert names[-1].lower() == activation, names
    assert names[-2] == "Add", names
    np.testing.assert_allclose(opened.outputs[0].numpy(), y.numpy(), rtol=1e-12)


@pytest.mark.parametrize("needs", [(True, False, False, False), (False, False, False, True), (False, True, False, True),
                                   (False, False, True, False)], ids=str)
def test_only_what_is_needed_is_given(needs):
    found = []
    for function in (fused("relu"), composed("relu")):
        tensors = [Tensor(a.astype(np.float32), need) for a, need in zip(draw((6, 3, 4)), needs)]
        y = function(*tensors)[0]
        found.append(grad((y * y).sum(), [t for t in tensors if t.requires_grad]))
    for a, b in zip(*found):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
def test_functional_layer_and_sequential(activation):
    """In training and evaluation; hooks see each step for itself, and get the same numbers."""
    x, w, b, z = draw((6, 3, 4, 5))
    function = FUNCTIONS.get(activation, lambda y: y)
    mean, variance = np.linspace(-1, 1, 3), np.linspace(1, 2, 3)
    for training in (True, False):
        found = F.batch_norm(x, mean, variance, w, b, training, activation=activation, residual=z)
        wanted = function(F.batch_norm(x, mean, variance, w, b, training) + z)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)
    norms = [layers.BatchNorm2d(3, dtype=np.float64) for _ in range(4)]
    body, hooked = layers.Sequential(norms[2]), layers.Sequential(norms[3])
    seen = []
    norms[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    for _ in range(2):
        wanted = function(norms[0](Tensor(x)) + z).numpy()
        for found in (norms[1](Tensor(x), activation=activation, residual=z),
                      body(Tensor(x), activation=activation, residual=z),
                      hooked(Tensor(x), activation=activation, residual=z)):
            np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-14)
        for norm in norms[1:]:
            for buffer, other in zip(norm.buffers(), norms[0].buffers()):
                assert np.array_equal(buffer.numpy(), other.numpy())
        for norm in norms:
            norm.eval()
    assert len(seen) == 2
    np.testing.assert_allclose(function(seen[1] + z).numpy(), wanted, rtol=1e-12, atol=1e-14)


def test_sequential_is_one_operation_where_nobody_looks_on():
    x, z = (Tensor(a.astype(np.float32), True) for a in (draw((6, 3, 4, 5))[0], draw((6, 3, 4, 5))[3]))
    body = layers.Sequential(layers.Conv2d(3, 3, 1), layers.BatchNorm2d(3))
    y = body(x, residual=z, activation="relu")
    assert y.edge.op.name == "ResidualBatchNorm"
    with kernels.disabled():
        assert body(x, residual=z, activation="relu").edge.op.name == "ReLU"
    assert layers.Sequential()(x, residual=z).edge.op.name == "Add"


def test_refusals():
    x, _, _, z = draw((4, 3))
    layer, body = layers.BatchNorm1d(3, dtype=np.float64), layers.Sequential(layers.BatchNorm1d(3, dtype=np.float64))
    before = [{name: np.array(a) for name, a in module.state_dict().items()} for module in (layer, body[0])]
    for call in (lambda **k: ops.batch_norm(x, **k), lambda **k: layer(Tensor(x), **k),
                 lambda **k: F.batch_norm(x, None, None, training=True, **k),
                 lambda **k: ops.batch_norm_inference(x, x[0], x[0], **k)):
        with pytest.raises(ShapeError, match=r"residual of shape \(3,\) for input \(4, 3\)"):
            call(residual=z[0], activation="relu")
        with pytest.raises(ArgumentError, match="residual and a mask"):
            call(residual=z, mask=np.ones(4, bool))
    for activation, tier in itertools.product((None, "relu"), ("text", "all")):
        with pytest.raises(ShapeError, match=r"residual of shape \(3,\)"), kernels.tier(tier):
            body(Tensor(x), residual=z[0], activation=activation)
    with pytest.raises(ArgumentError, match=r"activation='tanh'.*relu, sigmoid"):
        body(Tensor(x), residual=z, activation="tanh")
    for old, module in zip(before, (layer, body[0])):
        assert all(np.array_equal(a, module.state_dict()[name]) for name, a in old.items())
