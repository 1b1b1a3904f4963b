"""BatchNorm layers: what is normalized by what, and when and how the running statistics move."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, modes
from minigrad.errors import ArgumentError, DtypeError, GraphError, ShapeError, StateError
from minigrad.layers import BatchNorm, BatchNorm1d, BatchNorm2d, Sequential, StatsUpdate

EPS = 1e-5


def draw(*shape, seed=0, dtype=np.float64):
    return (2 * np.random.default_rng(seed).standard_normal(shape) + 3).astype(dtype)


def per_channel(x):
    """(m, C): the values of each channel in a column."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])


def normalized(x, mean, variance, eps=EPS):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + eps)


def statistics(norm):
    return (norm.running_mean.numpy().copy(), norm.running_var.numpy().copy(), norm.num_batches_tracked.item())


def assert_unchanged(norm, before):
    for old, new in zip(before, statistics(norm)):
        np.testing.assert_array_equal(old, new)


def relative(a, b):
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


# ------------------------------------------------------------------ values


@pytest.mark.parametrize(("kind", "shape"), [
    (BatchNorm1d, (5, 3)), (BatchNorm1d, (4, 3, 6)), (BatchNorm1d, (1, 3, 2)), (BatchNorm2d, (2, 3, 4, 5)),
    (BatchNorm2d, (1, 3, 2, 2)), (BatchNorm2d, (4, 1, 3, 3)), (BatchNorm, (2, 3, 2, 3, 2)),
])
def test_training_normalizes_by_the_batch_and_evaluation_by_the_running_statistics(kind, shape):
    x, c = draw(*shape), shape[1]
    norm = kind(c, dtype=np.float64)
    norm.weight.assign(np.arange(1.0, c + 1))
    norm.bias.assign(np.arange(c) - 1.0)
    view = (1, -1) + (1,) * (len(shape) - 2)

    def affine(xhat):
        return xhat * np.arange(1.0, c + 1).reshape(view) + (np.arange(c) - 1.0).reshape(view)

    values = per_channel(x)
    np.testing.assert_allclose(
        norm(Tensor(x)).numpy(), affine(normalized(x, values.mean(0), values.var(0))), rtol=1e-11, atol=1e-12)
    mean, variance = 0.1 * values.mean(0), 0.9 + 0.1 * values.var(0, ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-13)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-13)
    np.testing.assert_allclose(norm.eval()(Tensor(x)).numpy(), affine(normalized(x, mean, variance)), rtol=1e-11)


def test_strides_do_not_matter():
    x = draw(4, 3, 5, 6)
    results = []
    for given in (x, np.asfortranarray(x), np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)):
        norm = BatchNorm2d(3)
        results.append((norm(Tensor(given)).numpy(), *statistics(norm)))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_inputs_are_not_changed():
    x = draw(6, 3)
    x.flags.writeable = False
    norm = BatchNorm1d(3)
    norm(Tensor(x, requires_grad=True)).sum().backward()
    np.testing.assert_array_equal(x, draw(6, 3))
    np.testing.assert_array_equal(norm.weight.numpy(), np.ones(3))


# ------------------------------------------------------------------ running statistics


def test_three_batches_by_hand():
    norm = BatchNorm1d(2, momentum=0.3, dtype=np.float64)
    mean, variance = np.zeros(2), np.ones(2)
    for seed, m in enumerate((4, 7, 2)):
        x = draw(m, 2, seed=seed)
        norm(Tensor(x))
        center = x.sum(0) / m
        spread = ((x - center) ** 2).sum(0) / (m - 1)
        mean, variance = 0.7 * mean + 0.3 * center, 0.7 * variance + 0.3 * spread
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-13)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-13)
    assert norm.num_batches_tracked.item() == 3


def test_momentum_none_is_the_average_over_all_batches():
    norm = BatchNorm2d(2, momentum=None, dtype=np.float64)
    batches = [draw(3, 2, 2, 2, seed=seed) for seed in range(4)]
    for x in batches:
        norm(Tensor(x))
    np.testing.assert_allclose(
        norm.running_mean.numpy(), np.mean([per_channel(x).mean(0) for x in batches], axis=0), rtol=1e-13)
    np.testing.assert_allclose(
        norm.running_var.numpy(), np.mean([per_channel(x).var(0, ddof=1) for x in batches], axis=0), rtol=1e-13)
    norm.num_batches_tracked = None
    with pytest.raises(StateError, match="num_batches_tracked"):
        norm(Tensor(batches[0]))


def test_two_values_double_the_variance():
    norm = BatchNorm1d(1, momentum=1.0, dtype=np.float64)
    norm(Tensor(np.array([[1.0], [3.0]])))
    assert norm.running_mean.item() == 2.0
    assert norm.running_var.item() == 2.0  # the biased variance is 1, and m/(m − 1) = 2


@pytest.mark.parametrize(("momentum", "mean", "variance"), [(0.0, 0.0, 1.0), (1.0, 5.0, 4.0)])
def test_the_ends_of_momentum_are_exact(momentum, mean, variance):
    norm = BatchNorm1d(1, momentum=momentum)
    norm(Tensor(np.array([[3.0], [5.0], [7.0]], np.float32)))
    assert (norm.running_mean.item(), norm.running_var.item()) == (mean, variance)


def test_the_update_is_an_object_of_plain_arrays():
    update = StatsUpdate(np.array([2.0, 0.0]), np.array([3.0, 1.0]), count=4)
    mean, variance = update.applied(np.zeros(2, np.float32), np.ones(2, np.float32), 0.5)
    np.testing.assert_array_equal(mean, np.array([1.0, 0.0], np.float32), strict=True)
    np.testing.assert_array_equal(variance, np.array([2.5, 0.5 + 2 / 3], np.float32), strict=True)
    with pytest.raises(AttributeError):
        update.count = 5


def test_buffers_are_rebound_never_written():
    norm = BatchNorm1d(3)
    arrays = [b.data for b in norm.buffers()]
    copies = [a.copy() for a in arrays]
    objects = list(norm.buffers())
    norm(Tensor(draw(5, 3)))
    for old, kept in zip(arrays, copies):
        np.testing.assert_array_equal(old, kept)
    assert [id(b) for b in norm.buffers()] == [id(b) for b in objects]
    assert not any(b.data is a for b, a in zip(norm.buffers(), arrays))
    assert norm.num_batches_tracked.data.shape == ()
    assert norm.num_batches_tracked.dtype == np.int64


def test_an_evaluation_graph_keeps_the_statistics_it_saw():
    norm = BatchNorm1d(3, dtype=np.float64)
    norm(Tensor(draw(5, 3)))
    x = Tensor(draw(4, 3, seed=1), requires_grad=True)
    expected = 1 / np.sqrt(norm.running_var.numpy() + EPS)
    xhat = normalized(x.numpy(), norm.running_mean.numpy(), norm.running_var.numpy())
    y = norm.eval()(x)
    norm.train()(Tensor(draw(5, 3, seed=2) * 10))
    y.backward(np.ones(y.shape))
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(expected, (4, 3)), rtol=1e-13)
    np.testing.assert_allclose(norm.weight.grad.numpy(), xhat.sum(0), rtol=1e-12)


def test_two_forwards_before_one_backward():
    norm = BatchNorm1d(3, dtype=np.float64)
    u, v = (Tensor(draw(5, 3, seed=seed), requires_grad=True) for seed in (1, 2))
    w = draw(5, 3, seed=3)
    ((norm(u) + 2 * norm(v)) * w).sum().backward()
    together = [t.grad.numpy() for t in (u, v, norm.weight)]
    apart = []
    for x, factor in ((u, 1), (v, 2)):
        alone = BatchNorm1d(3, dtype=np.float64)
        x.grad = None
        (factor * alone(x) * w).sum().backward()
        apart.append((x.grad.numpy(), alone.weight.grad.numpy()))
    assert relative(together[0], apart[0][0]) < 1e-12
    assert relative(together[1], apart[1][0]) < 1e-12
    assert relative(together[2], apart[0][1] + apart[1][1]) < 1e-12
    assert norm.num_batches_tracked.item() == 2


# ------------------------------------------------------------------ when nothing, or all, is updated


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("track", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_the_update_depends_on_the_mode_alone(training, track, grad):
    norm = BatchNorm1d(3, track_running_stats=track, dtype=np.float64).train(training)
    norm.requires_grad_(grad)
    x = draw(5, 3)
    with minigrad.set_grad_enabled(grad):
        y = norm(Tensor(x))
    assert (norm.running_mean is not None) == norm.track_running_stats == track
    if training or not track:
        np.testing.assert_allclose(y.numpy(), normalized(x, x.mean(0), x.var(0)), rtol=1e-11)
    else:
        np.testing.assert_allclose(y.numpy(), normalized(x, np.zeros(3), np.ones(3)), rtol=1e-13)
    if track:
        assert norm.num_batches_tracked.item() == int(training)
    else:
        assert list(norm.state_dict()) == ["weight", "bias"]


def test_tracking_cannot_be_half_switched():
    norm = BatchNorm1d(3)
    with pytest.raises(ArgumentError, match=r"track_running_stats.*eval\(\)"):
        norm.track_running_stats = False
    norm.running_mean = norm.running_var = None
    assert not norm.track_running_stats
    x = draw(5, 3)
    np.testing.assert_allclose(norm.eval()(Tensor(x)).numpy(), normalized(x, x.mean(0), x.var(0)), rtol=1e-11)


def test_recomputing_commits_nothing():
    norm = BatchNorm1d(3)
    before = statistics(norm)
    with modes.switch(recomputing=True):
        norm(Tensor(draw(5, 3)))
    assert_unchanged(norm, before)


def test_one_value_per_channel_is_refused_in_training_and_leaves_the_buffers():
    net = Sequential(BatchNorm1d(3), BatchNorm2d(3))
    before = statistics(net[0])
    with pytest.raises(ValueError, match=r"batch_norm in layer 0 \(BatchNorm1d\).*\(1, 3\).*drop_last=True") as caught:
        net(Tensor(draw(1, 3)))
    assert isinstance(caught.value, ShapeError)
    assert_unchanged(net[0], before)
    assert net.eval()[0](Tensor(draw(1, 3))).shape == (1, 3)
    with pytest.raises(ShapeError):
        net[1].train()(Tensor(draw(1, 3, 1, 1)))
    assert_unchanged(net[1], before)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (0, 3, 2, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_empty_batches_pass_and_update_nothing(shape, training):
    norm = BatchNorm(3, dtype=np.float64).train(training)
    before = statistics(norm)
    x = Tensor(np.zeros(shape), requires_grad=True)
    y = norm(x)
    assert y.shape == shape
    assert_unchanged(norm, before)
    gx, gweight, gbias = minigrad.grad(y, [x, norm.weight, norm.bias], Tensor(np.ones(shape)), create_graph=True)
    assert gx.shape == shape
    np.testing.assert_array_equal(gweight.numpy(), np.zeros(3))
    np.testing.assert_array_equal(gbias.numpy(), np.zeros(3))
    (second,) = minigrad.grad(gx.sum() + gweight.sum(), [x])
    assert second.shape == shape


@pytest.mark.parametrize(("bad", "dtype"), [(np.nan, np.float32), (np.inf, np.float32), (1e60, np.float64)])
def test_a_batch_that_is_not_finite_or_does_not_fit_is_dropped(bad, dtype):
    net = Sequential(BatchNorm1d(3))
    norm = net[0]
    norm(Tensor(draw(5, 3)))
    before = statistics(norm)
    x = draw(5, 3, dtype=dtype)
    x[2, 1] = bad
    with np.errstate(all="ignore"):
        with pytest.warns(RuntimeWarning, match=r"^0 \(BatchNorm1d\): .* in channels 1; .*dropped_updates"):
            net(Tensor(x))
        net(Tensor(x))  # no second warning, which would fail this test
    assert_unchanged(norm, before)
    assert norm.dropped_updates == 2
    norm(Tensor(draw(5, 3)))
    assert norm.num_batches_tracked.item() == 2


def test_statistics_that_overflow_only_in_the_check_are_kept():
    norm = BatchNorm1d(2, momentum=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norm(Tensor(np.array([[1e18, 1.0], [3e18, 2.0]], np.float32)))
    np.testing.assert_allclose(norm.running_var.numpy(), [2e36, 0.5], rtol=1e-6)
    assert norm.dropped_updates == 0


def test_half_precision_has_statistics_in_float32():
    x = (300 * np.random.default_rng(0).standard_normal((64, 3))).astype(np.float16)
    norm = BatchNorm1d(3, dtype=np.float16, momentum=1.0)
    y = norm(Tensor(x))
    assert y.dtype == np.float16
    assert norm.running_var.dtype == np.float32
    wide = x.astype(np.float64)
    np.testing.assert_allclose(norm.running_var.numpy(), wide.var(0, ddof=1), rtol=1e-5)  # about 9e4: inf in float16
    np.testing.assert_allclose(y.numpy(), normalized(wide, wide.mean(0), wide.var(0)), atol=2e-3)


def test_float64_input_to_a_float32_layer_keeps_the_buffers_dtype():
    norm = BatchNorm1d(3)
    norm(Tensor(draw(5, 3)))
    assert norm.running_mean.dtype == norm.running_var.dtype == np.float32


# ------------------------------------------------------------------ options, errors, gradients


def test_without_parameters_or_with_only_one():
    x = Tensor(draw(5, 3), requires_grad=True)
    plain = BatchNorm1d(3, affine=False)
    assert not list(plain.parameters())
    assert not plain.affine
    np.testing.assert_allclose(plain(x).numpy(), normalized(x.numpy(), x.numpy().mean(0), x.numpy().var(0)), rtol=1e-11)
    scaled = BatchNorm1d(3, bias=False)
    assert list(scaled.state_dict())[:2] == ["weight", "running_mean"]
    (scaled(x) ** 2).sum().backward()
    assert scaled.weight.grad.shape == (3,)


@pytest.mark.parametrize(("norm", "shape", "wanted"), [
    (BatchNorm1d(3), (3,), "(N, C) or (N, C, L) with C = 3"),
    (BatchNorm1d(3), (2, 3, 4, 5), "(N, C) or (N, C, L) with C = 3"),
    (BatchNorm1d(3), (2, 4), "(N, C) or (N, C, L) with C = 3"),
    (BatchNorm2d(3), (2, 3), "(N, C, H, W) with C = 3"),
    (BatchNorm2d(3, affine=False), (2, 4, 5, 5), "(N, C, H, W) with C = 3"),
])
def test_shapes_that_do_not_fit(norm, shape, wanted):
    before = statistics(norm)
    with pytest.raises(ShapeError, match=re.escape(f"got input of shape {shape}; wanted {wanted}")):
        norm(Tensor(np.ones(shape)))
    assert_unchanged(norm, before)


def test_whole_numbers_are_refused():
    with pytest.raises(DtypeError, match="int64"):
        BatchNorm1d(2)(Tensor([[1, 2], [3, 4]]))


@pytest.mark.parametrize("options", [{"num_features": 0}, {"eps": -1.0}, {"momentum": 1.5}, {"momentum": -0.1},
                                     {"eps": float("nan")}])
def test_options_out_of_range(options):
    with pytest.raises(ArgumentError, match="BatchNorm1d"):
        BatchNorm1d(**{"num_features": 3, **options})


def test_the_sum_of_the_output_has_no_gradient_and_a_bias_before_has_none():
    norm = BatchNorm1d(3, dtype=np.float64)
    x, b = Tensor(draw(6, 3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
    (norm(x + b) * draw(6, 3, seed=1)).sum().backward()
    assert np.max(np.abs(b.grad.numpy())) < 1e-12
    x.grad = None
    norm(x).sum().backward()
    assert np.max(np.abs(x.grad.numpy())) < 1e-12


def test_a_zero_weight_receives_its_gradient():
    norm = BatchNorm1d(3, dtype=np.float64)
    norm.weight.assign(0)
    x, w = Tensor(draw(6, 3), requires_grad=True), draw(6, 3, seed=1)
    (norm(x) * w).sum().backward()
    expected = (w * normalized(x.numpy(), x.numpy().mean(0), x.numpy().var(0))).sum(0)
    np.testing.assert_allclose(norm.weight.grad.numpy(), expected, rtol=1e-11)
    np.testing.assert_array_equal(x.grad.numpy(), np.zeros((6, 3)))


def test_writing_a_weight_between_forward_and_backward_is_refused():
    net = Sequential(BatchNorm1d(3))
    x = Tensor(draw(6, 3), requires_grad=True)
    y = net(x).sum()
    net[0].weight.assign(2)
    with pytest.raises(GraphError, match=r"BatchNorm.* in layer 0 \(BatchNorm1d\)"):
        y.backward()


def test_resetting():
    norm = BatchNorm1d(3)
    norm(Tensor(draw(5, 3)))
    norm.weight.assign(2)
    old = norm.running_mean.data
    norm.reset_parameters()
    assert_unchanged(norm, (np.zeros(3), np.ones(3), 0))
    assert norm.running_mean.data is not old
    np.testing.assert_array_equal(norm.weight.numpy(), np.ones(3))


def test_copies_go_their_own_ways():
    norm = BatchNorm1d(3)
    norm(Tensor(draw(5, 3)))
    unpickled = pickle.loads(pickle.dumps(norm))  # noqa: S301 (what this test has written itself)
    for other in (copy.deepcopy(norm), unpickled):
        before = statistics(norm)
        assert_unchanged(other, before)
        other(Tensor(draw(5, 3, seed=1)))
        assert_unchanged(norm, before)
        assert other.num_batches_tracked.item() == 2


def test_repr():
    assert repr(BatchNorm1d(3)) == (
        "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)")
    assert repr(BatchNorm2d(3, momentum=None, affine=False, track_running_stats=False)) == (
        "BatchNorm2d(3, eps=1e-05, momentum=None, affine=False, bias=False, track_running_stats=False)")
