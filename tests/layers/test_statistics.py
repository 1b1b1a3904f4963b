"""Running statistics as objects: withheld, merged, committed or dropped; bias correction; freezing; recalibration."""

import contextlib
import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, layers
from minigrad.errors import ArgumentError, StateError
from minigrad.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    InstanceNorm1d,
    InstanceStatsUpdate,
    Linear,
    Sequential,
    StatsUpdate,
    accumulate_statistics,
    freeze,
    frozen_statistics,
    recalibrate,
    unfreeze,
    withhold_statistics,
)

RNG = np.random.default_rng(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape) * 2 + 3


def statistics(norm):
    return norm.running_mean.numpy().copy(), norm.running_var.numpy().copy(), norm.num_batches_tracked.item()


def assert_same(found, wanted, rtol=0.0):
    for f, w in zip(found, wanted):
        np.testing.assert_allclose(f, w, rtol=rtol, atol=0)


# ------------------------------------------------------------------ merging


@pytest.mark.parametrize("sizes", [(7, 1, 0, 12), (2, 2), (1, 1, 1), (0, 5), (300, 3)])
def test_merged_parts_are_the_whole(sizes):
    x = RNG.normal(size=(sum(sizes), 4)) * [1, 1e3, 1e-3, 5] + [0, 1e4, 3, -2]
    parts, start = [], 0
    for size in sizes:
        part = x[start : start + size]
        start += size
        mean = part.mean(0) if size else np.zeros(4)
        parts.append(StatsUpdate(mean, part.var(0) if size else np.zeros(4), size))
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merged(part)
    assert merged.count == len(x)
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(merged.variance, x.var(0), rtol=1e-12)


def test_merging_nothing_is_nothing():
    empty = StatsUpdate(np.zeros(2), np.zeros(2), 0)
    assert empty.merged(empty).count == 0


def test_counts_per_channel_are_merged_per_channel():
    first = StatsUpdate(np.array([1.0, 5.0]), np.array([0.0, 2.0]), np.array([2, 0]))
    second = StatsUpdate(np.array([4.0, 7.0]), np.array([3.0, 1.0]), np.array([4, 3]))
    merged = first.merged(second)
    np.testing.assert_array_equal(merged.count, [6, 3])
    np.testing.assert_allclose(merged.mean, [3.0, 7.0])
    np.testing.assert_allclose(merged.variance, [(3 * 4 + 9 * 2 * 4 / 6) / 6, 1.0])


def test_instance_statistics_are_averaged_over_the_examples():
    first = InstanceStatsUpdate(np.array([1.0]), np.array([2.0]), 5, examples=1)
    second = InstanceStatsUpdate(np.array([4.0]), np.array([8.0]), 5, examples=2)
    merged = first.merged(second)
    assert (merged.mean.item(), merged.variance.item(), merged.examples, merged.count) == (3.0, 6.0, 3, 5)


def test_instance_statistics_of_different_lengths():
    norm = InstanceNorm1d(3, track_running_stats=True, momentum=1.0, dtype=np.float64)
    parts = draw(2, 3, 4), draw(3, 3, 9), draw(1, 3, 2)
    with accumulate_statistics(norm):
        for part in parts:
            norm(Tensor(part))
    for found, each in ((norm.running_mean, [p.mean(2) for p in parts]),
                        (norm.running_var, [p.var(2, ddof=1) for p in parts])):
        np.testing.assert_allclose(found.numpy(), np.concatenate(each).mean(0), rtol=1e-13)


# ------------------------------------------------------------------ ledgers


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize(("kind", "shape"), [(BatchNorm1d, (24, 3)), (BatchNorm2d, (24, 3, 2, 2)),
                                             (InstanceNorm1d, (24, 3, 5))])
def test_micro_batches_commit_once_what_the_large_batch_would(kind, shape, momentum):
    x = (draw(*shape) * 10 + 1e3).astype(np.float32)
    options = {"track_running_stats": True, "momentum": momentum}
    whole, parts = kind(3, **options), kind(3, **options)
    for _ in range(2):
        whole(Tensor(x))
        with accumulate_statistics(parts) as held:
            for part in np.split(x, [6, 8]):
                parts(Tensor(part))
                assert parts.num_batches_tracked.item() == whole.num_batches_tracked.item() - 1
        assert not held.updates
    assert_same(statistics(parts), statistics(whole), rtol=1e-6)


def test_an_exception_inside_commits_nothing():
    norm = BatchNorm1d(3)

    def fail():
        with accumulate_statistics(norm):
            norm(Tensor(draw(4, 3)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert norm.num_batches_tracked.item() == 0


def test_frozen_statistics_concern_the_model_they_name():
    model = Sequential(BatchNorm1d(3), BatchNorm1d(3))
    with frozen_statistics(model[0]):
        model(Tensor(draw(5, 3)))
    assert [norm.num_batches_tracked.item() for norm in model] == [0, 1]
    with frozen_statistics():
        model(Tensor(draw(5, 3)))
    assert [norm.num_batches_tracked.item() for norm in model] == [0, 1]
    y = model(Tensor(draw(5, 3)))
    with frozen_statistics():
        np.testing.assert_array_equal(model(Tensor(draw(5, 3))).numpy(), y.numpy())  # the output is that of training


def test_blocks_nest_and_the_innermost_that_includes_a_layer_decides():
    model = Sequential(BatchNorm1d(3), BatchNorm1d(3))
    with accumulate_statistics(model) as outer, frozen_statistics(model[1]), withhold_statistics(model[0]) as inner:
        model(Tensor(draw(5, 3)))
        assert list(inner.updates) == [model[0]]
        assert not outer.updates
    assert [norm.num_batches_tracked.item() for norm in model] == [0, 0]
    inner.commit()
    assert [norm.num_batches_tracked.item() for norm in model] == [1, 0]
    assert mg.modes.current().statistics == ()


def test_what_a_training_step_commits_goes_to_the_block_around_it():
    norm, plain, x = BatchNorm1d(3), BatchNorm1d(3), draw(6, 3)

    def step(norm):
        with accumulate_statistics(norm):
            norm(Tensor(x[:2]))
            norm(Tensor(x[2:]))

    with frozen_statistics():
        step(norm)
    assert norm.num_batches_tracked.item() == 0
    with withhold_statistics(norm) as held:
        step(norm)
    assert norm.num_batches_tracked.item() == 0
    plain(Tensor(x))
    held.commit()
    assert_same(statistics(norm), statistics(plain), rtol=1e-6)
    assert norm.num_batches_tracked.item() == 1
    with withhold_statistics(norm) as held:
        step(norm)
    held.drop()
    held.commit()
    assert norm.num_batches_tracked.item() == 1


def test_blocks_inside_themselves_and_each_other():
    first, second, third = (BatchNorm1d(3) for _ in range(3))
    a, b = accumulate_statistics(first), accumulate_statistics(second)
    with a, b, a:
        for norm in (first, second, third):
            norm(Tensor(draw(4, 3)))
        assert [n.num_batches_tracked.item() for n in (first, second, third)] == [0, 0, 1]
    assert [n.num_batches_tracked.item() for n in (first, second, third)] == [1, 1, 1]
    assert mg.modes.current().statistics == ()


def test_one_block_may_be_entered_several_times():
    norm = BatchNorm1d(3, momentum=1.0, dtype=np.float64)
    x = draw(8, 3)
    held = withhold_statistics(norm)
    for part in (x[:3], x[3:]):
        with held:
            norm(Tensor(part))
    held.commit()
    np.testing.assert_allclose(norm.running_mean.numpy(), x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(norm.running_var.numpy(), x.var(0, ddof=1), rtol=1e-13)


def test_preview_and_drop():
    model = Sequential(BatchNorm1d(3, dtype=np.float64), BatchNorm1d(3, affine=False))
    plain = copy.deepcopy(model)
    x = Tensor(draw(5, 3))
    with withhold_statistics(model) as held:
        model(x)
    before = statistics(model[0])
    preview = held.preview()
    assert list(preview) == ["0", "1"]
    plain(x)
    for name, (mean, variance) in preview.items():
        norm = plain.get_submodule(name)
        np.testing.assert_array_equal(mean, norm.running_mean.numpy())
        np.testing.assert_array_equal(variance, norm.running_var.numpy())
    np.testing.assert_allclose(held.preview(momentum=1.0)["0"][0], x.numpy().mean(0), rtol=1e-13)
    assert_same(statistics(model[0]), before)
    held.drop()
    held.commit()
    assert_same(statistics(model[0]), before)
    anonymous = withhold_statistics()
    with anonymous:
        model(x)
    assert list(anonymous.preview()) == ["BatchNorm1d 0", "BatchNorm1d 1"]


def test_recomputation_under_a_ledger_counts_once():
    norm = BatchNorm1d(3)
    x = Tensor(draw(5, 3), requires_grad=True)
    with accumulate_statistics(norm):
        mg.recompute(norm, x).sum().backward()
        (_, batches), = norm_updates(norm)
        assert batches == 1
    assert norm.num_batches_tracked.item() == 1


def norm_updates(norm):
    return [mg.modes.current().statistics[-1].updates[norm]]


def test_observers_hear_of_every_update():
    heard = []

    class Hear(mg.Observer):
        def statistics(self, layer, scope, update):
            heard.append((layer, update.count, scope[1]))

    model = Sequential(BatchNorm1d(3))
    with mg.observe(Hear()):
        model(Tensor(draw(5, 3)))
        with frozen_statistics():
            model(Tensor(draw(4, 3)))
        model.eval()(Tensor(draw(4, 3)))
    assert heard == [(model[0], 5, "0"), (model[0], 4, "0")]


# ------------------------------------------------------------------ what is not finite


@pytest.mark.parametrize("policy", ["skip", "raise"])
@pytest.mark.parametrize("hold", [False, True])
def test_a_bad_batch_is_skipped_or_refused_and_never_stored(policy, hold):
    norm = BatchNorm1d(3, nonfinite=policy)
    norm(Tensor(draw(5, 3)))
    before = statistics(norm)
    bad = draw(5, 3)
    bad[1, 2] = np.inf

    def run():
        with accumulate_statistics(norm) if hold else contextlib.nullcontext():
            norm(Tensor(bad))
            if hold:
                norm(Tensor(draw(5, 3, seed=1)))

    with np.errstate(all="ignore"):
        if policy == "raise":
            with pytest.raises(StateError, match=r"layer \(BatchNorm1d\).*channels 2.*nonfinite='skip'"):
                run()
            assert_same(statistics(norm), before)
        else:
            with pytest.warns(RuntimeWarning, match="channels 2"):
                run()
            assert norm.dropped_updates == 1
            if hold:  # the good batch is committed without the bad one
                alone = BatchNorm1d(3)
                alone(Tensor(draw(5, 3)))
                alone(Tensor(draw(5, 3, seed=1)))
                assert_same(statistics(norm), statistics(alone), rtol=1e-6)
            else:
                assert_same(statistics(norm), before)


def test_the_policy_is_checked():
    with pytest.raises(ArgumentError, match="nonfinite"):
        BatchNorm1d(3, nonfinite="store")


# ------------------------------------------------------------------ bias correction


def test_the_first_batch_counts_whole_and_later_ones_as_in_adam():
    norm = BatchNorm1d(2, momentum=0.2, debias=True, dtype=np.float64)
    plain_mean = plain_variance = 0.0
    for k in range(1, 6):
        x = draw(7, 2, seed=k)
        norm(Tensor(x))
        plain_mean = 0.8 * plain_mean + 0.2 * x.mean(0)
        plain_variance = 0.8 * plain_variance + 0.2 * x.var(0, ddof=1)
        np.testing.assert_allclose(norm.running_mean.numpy(), plain_mean / (1 - 0.8**k), rtol=1e-12)
        np.testing.assert_allclose(norm.running_var.numpy(), plain_variance / (1 - 0.8**k), rtol=1e-12)
    assert norm.optional_state == ()
    assert "debias=True" in repr(norm)


@pytest.mark.parametrize("momentum", [0.0, None])
def test_bias_correction_needs_a_momentum(momentum):
    with pytest.raises(ArgumentError, match="debias"):
        BatchNorm1d(2, momentum=momentum, debias=True)


# ------------------------------------------------------------------ freezing


def test_a_frozen_model_survives_train():
    model = Sequential(Linear(3, 3), BatchNorm1d(3), layers.LayerNorm(3), BatchNorm1d(3, track_running_stats=False))
    model(Tensor(draw(6, 3).astype(np.float32)))
    model[1].bias.requires_grad_(False)
    assert freeze(model) == ["1"]
    model.train()
    norm, before = model[1], statistics(model[1])
    x = Tensor(draw(6, 3, seed=2).astype(np.float32))
    inside = norm(x)
    np.testing.assert_array_equal(inside.numpy(), copy.deepcopy(norm).eval()(x).numpy())
    assert_same(statistics(norm), before)
    assert not norm.weight.requires_grad
    assert model[2].weight.requires_grad
    assert "frozen=True" in repr(norm)
    freeze(model)  # a second time changes nothing about what is remembered
    assert unfreeze(model) == ["1"]
    assert (norm.weight.requires_grad, norm.bias.requires_grad) == (True, False)
    norm(x)
    assert norm.num_batches_tracked.item() == 2
    assert unfreeze(model) == []
    freeze(model, parameters=False)
    assert norm.weight.requires_grad


def test_freezing_without_running_statistics_is_refused():
    with pytest.raises(ArgumentError, match="track_running_stats=True"):
        BatchNorm1d(3, track_running_stats=False).freeze()


def test_the_gradient_of_a_frozen_layer_is_that_of_an_affine_map():
    norm = BatchNorm1d(3, dtype=np.float64)
    norm(Tensor(draw(6, 3)))
    norm.freeze(parameters=False)
    x = Tensor(draw(4, 3, seed=1), requires_grad=True)
    norm(x).backward(np.ones((4, 3)))
    scale = 1 / np.sqrt(norm.running_var.numpy() + norm.eps)
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(scale, (4, 3)), rtol=1e-13)


# ------------------------------------------------------------------ recalibration


def test_recalibration_gives_the_statistics_of_the_data():
    norm = BatchNorm1d(3, dtype=np.float64)
    x = draw(50, 3)
    assert recalibrate(norm, [x[:20], (x[20:40], "labels"), Tensor(x[40:])]) == 3
    np.testing.assert_allclose(norm.running_mean.numpy(), x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), x.var(0, ddof=1), rtol=1e-12)
    assert norm.num_batches_tracked.item() == 3


def test_recalibration_changes_nothing_else():
    model = Sequential(Linear(3, 4), BatchNorm1d(4), Dropout(0.5), Linear(4, 4), BatchNorm1d(4), BatchNorm1d(4))
    model[0].eval()
    model[5].freeze()
    modes, frozen = [m.training for m in model.modules()], statistics(model[5])
    weights = [p.numpy().copy() for p in model.parameters()]
    state = mg.ops.random.default_generator.get_state()
    x = draw(32, 3).astype(np.float32)
    recalibrate(model, [x[:16], x[16:]])
    first = statistics(model[4])
    recalibrate(model, [x[:16], x[16:]])
    assert_same(statistics(model[4])[:2], first[:2], rtol=1e-6)  # without dropout it is the same every time
    assert [m.training for m in model.modules()] == modes
    assert_same([p.numpy() for p in model.parameters()], weights)
    assert_same(statistics(model[5]), frozen)
    assert mg.ops.random.default_generator.get_state() == state


def test_recalibration_refusals():
    with pytest.raises(ArgumentError, match="no batches"):
        recalibrate(BatchNorm1d(3), [])
    with pytest.raises(ArgumentError, match="without running statistics"):
        recalibrate(Linear(3, 3), [draw(4, 3)])
    with pytest.raises(StateError, match="no finite statistics for the model"):
        recalibrate(BatchNorm1d(3), [np.zeros((0, 3))])
    model = Sequential(BatchNorm1d(3), BatchNorm1d(3))
    with pytest.raises(StateError, match="no finite statistics for 1"):
        recalibrate(model, [Tensor(draw(4, 3))], forward=model[0])
    assert model[0].num_batches_tracked.item() == 0


def test_recalibration_repairs_what_a_small_momentum_has_missed():
    norm = BatchNorm1d(3, momentum=0.01, dtype=np.float64)
    x = draw(64, 3)
    norm(Tensor(x))
    wanted = norm(Tensor(x)).numpy()
    lagging = np.abs(norm.eval()(Tensor(x)).numpy() - wanted).max()
    recalibrate(norm, [x])
    assert np.abs(norm.eval()(Tensor(x)).numpy() - wanted).max() < 0.02 * lagging


# ------------------------------------------------------------------ Keras' conventions


def test_keras_conventions():
    mean, variance = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)
    gamma, beta = np.array([0.5, 2.0], np.float32), np.array([1.0, -1.0], np.float32)
    layer = layers.batch_norm_from_keras(mean, variance, gamma, beta, momentum=0.9, epsilon=0.01)
    x = draw(5, 2).astype(np.float32)
    wanted = gamma * (x - mean) / np.sqrt(variance + 0.01) + beta
    np.testing.assert_allclose(layer.eval()(Tensor(x)).numpy(), wanted, rtol=1e-5)
    assert layer.momentum == pytest.approx(0.1)
    back = layers.batch_norm_to_keras(layer)
    assert (back["momentum"], back["epsilon"]) == (pytest.approx(0.9), 0.01)
    for name, array in {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}.items():
        np.testing.assert_array_equal(back[name], array)
    unbiased = layers.batch_norm_from_keras(mean, variance, count=4)
    np.testing.assert_allclose(unbiased.running_var.numpy(), variance * 4 / 3, rtol=1e-6)
    assert not unbiased.affine
    shifted = layers.batch_norm_from_keras(mean, variance, beta=beta)  # scale=False: γ stays 1
    assert [p.requires_grad for p in (shifted.weight, shifted.bias)] == [False, True]
    np.testing.assert_array_equal(shifted.weight.numpy(), 1)
    np.testing.assert_allclose(layers.batch_norm_to_keras(unbiased, 4)["moving_variance"], variance, rtol=1e-6)


def test_one_batch_as_keras_and_as_here():
    """The same batch through both rules, by hand: momentum 0.9 of the old and biased, 0.1 of the new and unbiased."""
    x = draw(6, 2)
    keras = 0.9 * np.ones(2) + 0.1 * x.var(0)
    layer = layers.batch_norm_from_keras(np.zeros(2), np.ones(2), momentum=0.9)
    layer(Tensor(x))
    ours = layer.running_var.numpy()
    np.testing.assert_allclose((ours - 0.9) * 5 / 6 + 0.9, keras, rtol=1e-13)


@pytest.mark.parametrize("call", [
    lambda: layers.momentum_from_keras(1.5), lambda: layers.momentum_to_keras(-0.1),
    lambda: layers.unbiased_variance(np.ones(2), 1), lambda: layers.biased_variance(np.ones(2), 0),
    lambda: layers.batch_norm_to_keras(BatchNorm1d(2, momentum=None)),
    lambda: layers.batch_norm_to_keras(BatchNorm1d(2, track_running_stats=False)),
])
def test_conventions_that_do_not_fit(call):
    with pytest.raises(ArgumentError, match="got"):
        call()
