"""A linear map, BatchNorm and an activation as one operation: against the three, to order three, and in layers."""

import numpy as np
import pytest
from joining import Names, operations, twins
from joining import apart as one_by_one
from kernels_and_texts import compare

from minigrad import Tensor, autocast, grad, kernels, observe, ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.expansion import expand, prove_equal
from minigrad.gradcheck import check_gradients
from minigrad.graph import walk
from minigrad.layers import BatchNorm1d, Linear, ReLU, Sequential, Sigmoid, Tanh, frozen_statistics

FUNCTIONS = {"relu": ops.relu, "sigmoid": ops.sigmoid}
both = pytest.mark.parametrize("activation", FUNCTIONS)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((9, 5)).astype(np.float32)


def draw(rows=7, inner=5, outer=3):
    """x, w, b, γ and β in float64."""
    rng = np.random.default_rng(1)
    return [rng.standard_normal(s) for s in ((rows, inner), (outer, inner), (outer,), (outer,), (outer,))]


def joined(activation, eps=1e-5):
    """The four results of the one operation."""
    return lambda x, w, b=None, weight=None, bias=None: ops.linear_batch_norm(x, w, b, weight, bias, eps, activation)


def apart(activation):
    """The same four results by three operations."""
    def run(x, w, b=None, weight=None, bias=None):
        y, *statistics = ops.batch_norm(ops.linear(x, w, b), weight, bias)
        return FUNCTIONS[activation](y), *statistics
    return run


def all_of(function):
    """One number that hangs on all four results."""
    def run(*args):
        y, mean, variance, rstd = function(*args)
        return y * 2 + mean * variance + rstd * mean
    return run


def gradients(function, arrays, order):
    """The derivatives of one order along random directions, 0 where a function says that nothing hangs on an input."""
    leaves, rng = [Tensor(a, True) for a in arrays], np.random.default_rng(2)
    y = function(*leaves)
    value = ops.sum((y[0] if isinstance(y, tuple) else y) * rng.standard_normal((7, 3)))
    for _ in range(order):
        found = grad(value, leaves, create_graph=True, allow_unused=True)
        found = [x.zeros_like() if g is None else g for x, g in zip(leaves, found)]
        value = sum(ops.sum(g * rng.standard_normal(g.shape)) for g in found)
    return [g.numpy() for g in found]


@both
@pytest.mark.parametrize("given", [5, 4, 3, 2], ids=["all", "no β", "no γ and β", "no b"])
@pytest.mark.parametrize("order", [1, 2])
def test_values_and_gradients(activation, given, order):
    """By kernels in float32 against the text, and in float64 against three operations."""
    arrays = draw()[:given]
    for function, other in ((joined(activation), apart(activation)), (all_of(joined(activation)),
                                                                     all_of(apart(activation)))):
        compare(function, arrays, 2e-5, order=order)
        found, wanted = (gradients(f, arrays, order) for f in (function, other))
        largest = max(np.abs(b).max() for b in wanted)
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12 * largest)


@pytest.mark.parametrize("shape", [(60, 784, 100), (5, 3, 4), (33, 7, 1)], ids=str)
def test_shapes(shape):
    compare(joined("sigmoid"), draw(*shape), 1e-4)


@both
def test_derivatives_to_order_three(activation):
    assert prove_equal(joined(activation), *draw(5, 3, 2), orders=3, show=False).equal
    check_gradients(lambda *xs: joined(activation)(*xs)[0], draw(5, 3, 2), order=2)


def test_a_bias_in_front_of_the_mean_has_the_gradient_zero():
    """Summed over a batch the gradient of b is 0 but for rounding; here it is 0. μ moves with b, one to one."""
    leaves = [Tensor(a.astype(np.float32), True) for a in draw()]
    y, mean, _, _ = joined("sigmoid")(*leaves)
    (gb,) = grad(ops.sum(y * y), leaves[2], retain_graph=True)
    assert gb.shape == (3,)
    assert gb.dtype == np.float32
    assert not gb.numpy().any()
    (gb,) = grad(ops.sum(mean), leaves[2])
    assert gb.tolist() == [1, 1, 1]


@pytest.mark.parametrize("learning", range(5))
def test_one_input_alone_with_a_gradient(learning):
    """What is kept depends on which gradients are wanted."""
    def of(function):
        leaves = [Tensor(a, i == learning) for i, a in enumerate(draw())]
        losses = ops.sum(all_of(function)(*leaves)), ops.sum(function(*leaves)[0] * leaves[3])
        return [grad(loss, leaves[learning])[0].numpy() for loss in losses]

    for tier in ("text", "all"):
        with kernels.tier(tier):
            for a, b in zip(of(joined("sigmoid")), of(apart("sigmoid"))):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_other_dtypes(dtype):
    narrow = [a.astype(dtype) for a in draw()]
    y, mean, variance, rstd = joined("sigmoid")(*narrow)
    assert (y.dtype, mean.dtype, variance.dtype, rstd.dtype) == (dtype, np.float32, np.float32, np.float32)
    mixed = [Tensor(a.astype(np.float64 if i == 1 else dtype), True) for i, a in enumerate(draw())]
    found = grad(ops.sum(joined("sigmoid")(*mixed)[0]), mixed)
    assert [g.dtype for g in found] == [t.dtype for t in mixed]


@both
def test_one_node_that_opens_into_its_parts(activation):
    x, w, b, weight, bias = (Tensor(a, True) for a in draw())
    y = joined(activation)(x, w, b, weight, bias)[0]
    assert [node.op.name for node in walk([y.edge])] == ["LinearBatchNorm"]
    opened = expand(y)
    assert [part.name for part in opened.parts] == ["Linear", "Subtract", "Add", "ActivatedBatchNorm", "Add"]
    np.testing.assert_allclose(opened.outputs[0].numpy(), y.numpy(), rtol=1e-12)
    without = expand(joined(activation)(x, w, None, weight, bias)[0])
    assert [part.name for part in without.parts] == ["Linear", "ActivatedBatchNorm"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("given", [5, 3], ids=["affine", "plain"])
@pytest.mark.parametrize("tier", ["text", "all"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_bias_that_is_not_finite_shows(bad, given, tier):
    """Though it is not added: a network shall not train on with a broken parameter."""
    arrays = [a.astype(np.float32) for a in draw()[:given]]
    arrays[2][1] = bad
    with kernels.tier(tier):
        y, mean, _, _ = joined("sigmoid")(*arrays)
        wanted, _, _, _ = apart("sigmoid")(*arrays)
    assert np.isnan(y).all(0).tolist() == np.isnan(wanted).all(0).tolist() == [False, True, False]
    assert np.isfinite(mean[0]).tolist() == [True, False, True]


def test_more_rows_than_the_linear_kernel_sums():
    compare(joined("relu"), draw(4200, 3, 2), 2e-5)


def test_refusals():
    x, w, b, *_ = draw()
    for wrong in ((x[:, :4], w, b), (x, w, b[:2]), (x[0], w, b), (x, w[0], b)):
        with pytest.raises(ShapeError, match="linear_batch_norm"):
            joined("relu")(*wrong)
    with pytest.raises(ShapeError, match="value per channel"):
        joined("relu")(x[:1], w, b)
    with pytest.raises(ArgumentError, match="tanh"):
        joined("tanh")(x, w, b)
    with pytest.raises(ArgumentError, match="eps"):
        joined("relu", eps=-1.0)(x, w, b)


# ------------------------------------------------------------------ layers


def make(activation=Sigmoid, **options):
    return Sequential(Linear(5, 4), BatchNorm1d(4, **options), activation())


needs_numba = pytest.mark.skipif(not kernels.served(ops.normalization_texts.ActivatedBatchNorm, "forward", "cpu"),
                                 reason="neighbours are joined where compiled loops serve")


@needs_numba
@pytest.mark.parametrize("activation", [ReLU, Sigmoid])
@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"debias": True}, {"affine": False}], ids=str)
def test_sequential_joins_neighbours(activation, options):
    one, two = twins(lambda: make(activation, **options))
    for _ in range(3):
        y, z = one(Tensor(X)), one_by_one(two, Tensor(X))
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-5, atol=2e-6)
        ops.sum(y * y).backward()
        ops.sum(z * z).backward()
    assert operations(one, X) == ["LinearBatchNorm"]
    one_by_one(two, Tensor(X))
    for (name, p), q in zip(one.named_parameters(), two.parameters()):
        rounding = 1e-3 if name == "0.bias" else 2e-5  # a sum that is 0, here exactly
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=rounding, err_msg=name)
    for name, a in one.state_dict().items():
        np.testing.assert_allclose(a, two.state_dict()[name], rtol=1e-5, atol=1e-6, err_msg=name)


@needs_numba
def test_what_is_not_joined():
    class Own(Linear):
        """Another meaning, maybe."""

    three = Tensor(RNG.standard_normal((2, 3, 5)).astype(np.float32))
    assert operations(Sequential(Linear(5, 4), BatchNorm1d(4), Tanh()), X) == ["Linear", "BatchNorm", "Tanh"]
    assert operations(Sequential(Own(5, 4), BatchNorm1d(4), ReLU()), X) == ["Linear", "ActivatedBatchNorm"]
    assert operations(Sequential(Linear(5, 4), BatchNorm1d(4)), X) == ["Linear", "BatchNorm"]
    assert operations(Sequential(Linear(5, 3), BatchNorm1d(3), ReLU()), three.numpy()) == ["Linear",
                                                                                           "ActivatedBatchNorm"]
    assert operations(make().eval(), X) == ["Linear", "BatchNormInference", "Sigmoid"]
    with autocast("float16"):
        assert "LinearBatchNorm" not in operations(make(), X)
    net, other = make(), Linear(5, 4)
    other.forward = lambda x: Linear.forward(other, x) * 2
    assert "LinearBatchNorm" not in operations(Sequential(other, *net[1:]), X)
    for name in ("weight", "bias"):
        net = make()
        getattr(net[0], name).data = getattr(net[0], name).numpy().astype(np.float64)
        assert net(Tensor(X)).dtype == np.float64
    assert make()(Tensor(np.arange(45).reshape(9, 5))).dtype == np.float64
    with kernels.tier("numpy"):
        assert operations(make(), X) == ["Linear", "BatchNorm", "Sigmoid"]


@needs_numba
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_see_what_they_saw(place, kind):
    model, seen = make(), []
    remove = getattr(model[place], kind)(lambda module, args, *output: seen.append(args[0].shape))
    assert "LinearBatchNorm" not in operations(model, X)
    assert seen == [(9, 5) if place == 0 else (9, 4)]
    remove()
    assert operations(model, X) == ["LinearBatchNorm"]


@needs_numba
def test_observers_see_three_layers():
    with observe(Names()) as watching:
        make()(Tensor(X))
    assert watching.observer.seen == ["Linear", "BatchNorm", "Sigmoid"]


def test_a_wrong_input_is_refused_by_the_layer_that_it_is_for():
    model = make()
    before = {name: np.array(a) for name, a in model.state_dict().items()}
    with pytest.raises(ShapeError, match="linear"):
        model(Tensor(X[:, :4]))
    with pytest.raises(ShapeError, match=r"1 \(BatchNorm1d\)"):
        Sequential(Linear(5, 3), BatchNorm1d(4), Sigmoid())(Tensor(X))
    with pytest.raises(ShapeError, match="value per channel"):
        model(Tensor(X[:1]))
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())


def test_blocks_around_decide_about_the_statistics():
    model = make()
    with frozen_statistics():
        model(Tensor(X))
    assert model[1].num_batches_tracked.item() == 0
    model(Tensor(X))
    wide = X.astype(np.float64) @ model[0].weight.numpy().T.astype(np.float64) + model[0].bias.numpy()
    np.testing.assert_allclose(model[1].running_mean.numpy(), 0.1 * wide.mean(0), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model[1].running_var.numpy(), 0.9 + 0.1 * wide.var(0, ddof=1), rtol=1e-5)


def test_the_layer_takes_a_linear_of_another_meaning():
    class Twice(Linear):
        def forward(self, x):
            return super().forward(x) * 2

    linear, norm, other = Twice(5, 4), BatchNorm1d(4), BatchNorm1d(4)
    y, z = norm(Tensor(X), activation="relu", linear=linear), other(linear(Tensor(X)), activation="relu")
    assert np.array_equal(y.numpy(), z.numpy())
    assert np.array_equal(norm.running_var.numpy(), other.running_var.numpy())
    with autocast("float16"):
        y = norm(Tensor(X), activation="relu", linear=Linear(5, 4))
    assert y.dtype == np.float16


@pytest.mark.parametrize("change", [lambda norm: norm, lambda norm: norm.eval(), lambda norm: norm.freeze() or norm])
@both
def test_the_layer_takes_a_linear(activation, change):
    """In one operation where it can, else one after the other."""
    linear, norm, other = Linear(5, 4), BatchNorm1d(4), BatchNorm1d(4)
    change(norm), change(other)
    for options in ({"activation": activation}, {}, {"activation": activation, "residual": Tensor(np.ones((9, 4)))}):
        if "residual" in options:
            options["residual"] = Tensor(np.ones((9, 4), np.float32))
        y, z = norm(Tensor(X), linear=linear, **options), other(linear(Tensor(X)), **options)
        np.testing.assert_allclose(y.numpy(), z.numpy(), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(norm.running_mean.numpy(), other.running_mean.numpy(), rtol=1e-5, atol=1e-7)
