"""The discrepancy between training and inference: measured against by-hand numbers, and the right advice given."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor
from minigrad.errors import ArgumentError
from minigrad.layers import (
    BatchNorm1d,
    Dropout,
    InstanceNorm1d,
    Linear,
    ReLU,
    Sequential,
    batch_norm_from_keras,
    discrepancy,
    recalibrate,
)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def settled(seed=0, scale=1.0):
    """A network whose running statistics are those of normal inputs, and such inputs."""
    mg.manual_seed(seed)
    model = Sequential(Linear(6, 8), BatchNorm1d(8), ReLU(), Dropout(0.5), Linear(8, 8), BatchNorm1d(8)).to("float64")
    x = draw(512, 6, seed=seed) * scale
    recalibrate(model, [x])
    return model, x


def test_one_layer_by_hand():
    norm = BatchNorm1d(3, dtype=np.float64)
    x = draw(8, 3) + 2
    norm(Tensor(draw(100, 3, seed=1) + 2))
    found = discrepancy(norm, x, batch_sizes=(4,))
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    expected, means, spreads = [], [], []
    for part in (x[:4], x[4:]):
        running = (part - mean) / np.sqrt(variance + 1e-5)
        batch = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-5)
        expected.append(np.abs(batch - running).mean() / np.abs(running).mean())
        means.append((part.mean(0) - mean) / np.sqrt(variance + 1e-5))
        spreads.append(0.5 * np.log((part.var(0, ddof=1) + 1e-5) / (variance + 1e-5)))
    one = found.layers[""][4]
    assert found.end_to_end == {4: pytest.approx(np.mean(expected))}
    assert one.local == pytest.approx(np.mean(expected))
    both = np.stack([means, spreads])
    assert one.lag == pytest.approx(np.abs(both.mean(1)).max(0).mean())
    assert one.noise == pytest.approx(both.std(1).max(0).mean())
    assert one.values == 4


def test_noise_falls_with_the_batch_and_larger_batches_are_advised():
    model, x = settled()
    found = discrepancy(model, x, (4, 16, 64))
    assert found.sizes == (4, 16, 64)
    assert found.end_to_end[4] > 1.5 * found.end_to_end[16] > 2 * found.end_to_end[64]
    for by_size in found.layers.values():
        assert by_size[4].noise > 1.5 * by_size[16].noise > 2 * by_size[64].noise
        assert by_size[4].local > by_size[64].local
    assert not found.lagging
    (said,) = found.advice()
    assert "GroupNorm" in said
    assert "recalibrate" not in said


def test_lag_is_told_from_noise():
    model, x = settled()
    found = discrepancy(model, x * 3 + 1, (16, 128), batches=4)
    assert "1" in found.lagging
    assert "recalibrate" in found.advice()[0]
    assert found.end_to_end[128] > 0.3
    recalibrate(model, [x * 3 + 1])
    assert not discrepancy(model, x * 3 + 1, (16, 128), batches=4).lagging


def test_what_was_never_trained():
    found = discrepancy(Sequential(BatchNorm1d(3)), draw(16, 3) + 5, (8,))
    assert found.never_updated == ["0"]
    assert "never updated" in found.advice()[0]
    assert len(found.advice()) == 1


def test_nothing_to_do():
    model, x = settled()
    found = discrepancy(model, x, (512,), batches=1)
    assert found.end_to_end[512] < 0.01
    assert found.advice()[0].startswith("Nothing: ")


def test_nothing_of_the_model_changes():
    model, x = settled()
    model.train()
    model[3].eval()
    modes = [m.training for m in model.modules()]
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    state = mg.ops.random.default_generator.get_state()
    discrepancy(model, [(x[:40], "labels"), (x[40:80], "labels")], (4, 8))
    assert [m.training for m in model.modules()] == modes
    assert mg.ops.random.default_generator.get_state() == state
    assert not any(m._hooks for m in model.modules())
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


def test_a_frozen_layer_is_the_same_in_both_modes():
    model, x = settled()
    for layer in (model[1], model[5]):
        layer.freeze()
    found = discrepancy(model, x, (8,))
    assert found.end_to_end[8] == 0
    assert found.layers["1"][8].local > 0.1  # what it would be unfrozen
    assert model[1].frozen


def test_statistics_from_elsewhere_without_a_count_are_statistics():
    x = draw(512, 4).astype(np.float32)
    layer = batch_norm_from_keras(x.mean(0), x.var(0))
    assert layer.num_batches_tracked.item() == 0
    found = discrepancy(layer, x, (64,))
    assert found.never_updated == []
    assert found.lagging == []
    assert discrepancy(type(layer)(4), x, (64,)).never_updated == [""]


def test_outputs_that_are_not_finite_are_said_first():
    model, x = settled()
    model[0].weight.assign(np.nan)
    with pytest.warns(RuntimeWarning, match="not finite"):
        found = discrepancy(model, x, (8,))
    assert found.advice()[0].startswith("Outputs at batch size 8 are not finite")


def test_output_and_table():
    model, x = settled()
    plain = discrepancy(model, x, (8, 64))
    positive = discrepancy(model, x, (8, 64), output=lambda y: mg.softmax(y, 1))
    assert plain.end_to_end != positive.end_to_end
    lines = str(plain).splitlines()
    assert lines[0].split() == ["layer", "batch", "8", "batch", "64", "lag", "noise"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "5"]
    assert lines[3].split()[:2] == ["end", "to"]
    assert lines[4].startswith("→ ")


def test_other_layers_and_refusals():
    norm = InstanceNorm1d(2, track_running_stats=True)
    found = discrepancy(norm, draw(8, 2, 5).astype(np.float32), (4,))
    assert found.layers[""][4].values == 5
    with pytest.raises(ArgumentError, match="without running statistics"):
        discrepancy(Linear(2, 2), draw(4, 2))
    with pytest.raises(ArgumentError, match="3 inputs"):
        discrepancy(norm, draw(3, 2, 5), (4,))
    with pytest.raises(ArgumentError, match="0 inputs"):
        discrepancy(norm, [], (4,))
