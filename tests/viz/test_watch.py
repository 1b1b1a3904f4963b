"""Watching a training run: the numbers are right, memory is bounded, nothing else changes."""

import numpy as np
import pytest
from networks import Net, batch

import minigrad
import minigrad.functional as F
from minigrad import layers, optim
from minigrad.errors import ArgumentError
from minigrad.viz.watch import Watch, watch_charts


def trained(steps, every=1, most=400, watched=True):
    minigrad.manual_seed(0)
    model = Net()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    x, target = batch()
    watch = Watch(model, every, most)
    if watched:
        watch.__enter__()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
        watch.after_step(step)
    watch.close()
    return model, watch


def test_the_numbers():
    x, target = batch()
    minigrad.manual_seed(0)
    model = Net()
    before = model.fc1.weight.numpy().copy()
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    with Watch(model, 1) as watch:
        y = model.fc1(x)
        F.cross_entropy(model(x), target).backward()
        optimizer.step()
        watch.after_step(1)
    found = watch.arrays()
    assert found["step"].tolist() == [1]
    assert found["fc1/mean"][0] == pytest.approx(y.numpy().mean(), rel=1e-5)
    assert found["fc1/p15"][0] == pytest.approx(np.percentile(y.numpy(), 15), rel=1e-5)
    assert found["fc1/unit p85"][0] == pytest.approx(np.percentile(y.numpy()[:, 0], 85), rel=1e-5)
    grad = model.fc1.weight.grad.numpy()
    assert found["fc1.weight/gradient"][0] == pytest.approx(np.linalg.norm(grad))
    assert found["fc1.weight/update"][0] == pytest.approx(0.5 * np.linalg.norm(grad) / np.linalg.norm(before))
    assert found["bn1/weight mean"][0] == pytest.approx(model.bn1.weight.numpy().mean())
    variance = y.numpy().var(0) + 1e-5
    away = abs(model.bn1.running_mean.numpy() - y.numpy().mean(0)) / np.sqrt(variance)
    assert found["bn1/running mean off by"][0] == pytest.approx(away.mean())
    assert found["bn1/running var ratio"][0] == pytest.approx((model.bn1.running_var.numpy() / variance).mean())
    dead = (F.relu(model.bn1(y)).numpy().max(0) <= 0).mean()
    assert found["act/dead"][0] == pytest.approx(dead, abs=0.3)


def test_saturation():
    model = layers.Sequential(layers.Linear(2, 3), layers.Sigmoid())
    model[0].weight.assign(0)
    model[0].bias.assign(np.array([0.0, 9.0, -9.0]))
    with Watch(model, 1) as watch:
        model(minigrad.ones(4, 2))
        watch.after_step(1)
    assert watch.arrays()["1/saturated"][0] == pytest.approx(2 / 3)


def test_every_nth_step_and_not_in_evaluation():
    model, watch = trained(10, every=3)
    assert watch.arrays()["step"].tolist() == [1, 4, 7, 10]
    with Watch(model.eval(), 1) as other:
        model(batch()[0])
        other.after_step(1)
    assert other.arrays() == {}


def test_memory_is_bounded():
    _, watch = trained(40, every=1, most=8)
    steps = watch.arrays()["step"]
    assert len(steps) <= 9
    assert steps[0] == 1
    assert steps[-1] > 30


def test_training_is_the_same():
    plain, _ = trained(5, watched=False)
    seen, _ = trained(5)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(plain.parameters(), seen.parameters()))
    assert not any(layer._hooks or layer._pre_hooks for layer in seen.modules())


def test_the_file_and_the_charts(tmp_path):
    _, watch = trained(6)
    with np.load(watch.save(tmp_path / "watch.npz")) as held:
        assert np.array_equal(held["step"], watch.arrays()["step"])
    charts = watch_charts(watch.arrays(), "batch")
    titles = [chart.title for chart in charts]
    assert titles[0] == "Inputs of one unit of the last activation, batch"
    assert [s.name for s in charts[0].series] == ["85th percentile", "50th percentile", "15th percentile"]
    assert any("Running means" in title for title in titles)
    assert watch_charts({}) == []


def test_options_are_checked():
    with pytest.raises(ArgumentError, match="every"):
        Watch(Net(), 0)
