"""What the trainers are for: BatchNorm needs fewer steps; the networks reach what the README says they reach."""

import argparse
import statistics

import numpy as np
import pytest

from minigrad.data import FashionMNIST, Subset
from minigrad.examples import compare_batchnorm, first_steps, train_cnn, train_mlp
from minigrad.examples._setup import Settings, Split, accuracy
from minigrad.run import Run


@pytest.fixture(scope="module")
def data():
    return Split(FashionMNIST(), FashionMNIST(train=False))


def ratios(data, seed, folder):
    """What `make demo` does: how many times fewer steps BatchNorm needs, at the baseline's rate and at its own best."""
    given = argparse.Namespace(**train_mlp.DEFAULTS | {"compare": ["none", "batch"], "grid": list(train_mlp.GRID),
                                                       "seed": seed, "device": "cpu", "every": 25})
    with Run(folder / str(seed)) as run:
        (baseline, *normalized), searched = compare_batchnorm.measure(train_mlp, data, given, run)
        steps = [compare_batchnorm.reached(run, each, baseline.best) for each in normalized]
    best = {norm: max(found, key=found.get) for norm, found in searched.items()}
    assert baseline.lr == best["none"]
    assert [each.lr for each in normalized] == list(dict.fromkeys([best["none"], best["batch"]]))
    return baseline.best_step / steps[0], baseline.best_step / steps[-1]


def test_batchnorm_needs_a_third_of_the_steps(data, tmp_path):
    assert ratios(data, 0, tmp_path)[1] >= 3


@pytest.mark.slow
def test_batchnorm_needs_a_third_of_the_steps_from_other_seeds(data, tmp_path):
    same, own = zip(*(ratios(data, seed, tmp_path) for seed in (0, 1, 2, 3, 4)))
    assert min(own) >= 3
    assert statistics.median(same) >= 3  # a rate that is the baseline's best may be far from BatchNorm's


@pytest.mark.parametrize("module", [train_mlp, train_cnn], ids=["mlp", "cnn"])
def test_networks_of_one_seed_start_from_the_same_weights(module):
    plain, *others = ([p.numpy() for p in module.build(norm, seed=3).parameters() if p.ndim > 1]
                      for norm in ("none", "batch", "layer"))
    for other in others:
        shared = [w for w in other if w.shape in {p.shape for p in plain}]
        assert len(shared) == len(plain)
        assert all(np.array_equal(one, two) for one, two in zip(plain, shared))
    assert not np.array_equal(plain[-1], list(module.build("none", seed=4).parameters())[-2].numpy())


def test_rates_are_chosen_on_images_that_are_not_trained_on(data):
    search = compare_batchnorm.held_out(data, seed=0)
    assert (len(search.train), len(search.test)) == (8000, 2000)
    images = [np.ascontiguousarray(part.batch(range(len(part)))[0]).reshape(len(part), -1) for part in search[:2]]
    seen = {row.tobytes() for row in images[0]}
    # 10,000 pictures hold a few pairs of equal ones.
    assert sum(row.tobytes() in seen for row in images[1]) < 10
    test_images = {row.tobytes() for row in data.test.images.reshape(2000, -1)}
    assert sum(row.tobytes() in test_images for part in images for row in part) < 10


def test_one_seed_gives_the_same_network_twice(data):
    small = Split(Subset(data.train, range(600)), data.test)
    settings = Settings(norm="batch", lr=0.3, epochs=1, batch_size=60, seed=3)
    first, second = (train_mlp.train(settings, small).state_dict() for _ in range(2))
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


@pytest.mark.slow
def test_the_cnn_with_batchnorm_reaches_87_percent(data):
    found = [accuracy(train_cnn.train(Settings(seed=seed, **train_cnn.DEFAULTS), data), data.test)
             for seed in (0, 1, 2)]
    assert statistics.mean(found) >= 0.87


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("module", [train_mlp, train_cnn], ids=["mlp", "cnn"])
def test_every_trainer_runs_with_every_normalization(module, norm, tmp_path, capsys):
    module.main(["--tiny", "--norm", norm, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "of 2,000 test images right" in said
    assert {"config.json", "metrics.jsonl", "model.safetensors"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_the_comparison_writes_a_table_and_a_report(tmp_path, capsys):
    compare_batchnorm.main(["mlp", "--compare", "none,batch,layer", "--tiny", "--grid", "0.3,1", "--out",
                            str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "no normalization, lr" in said
    assert "LayerNorm, lr" in said
    assert "held-out" in said
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "BatchNorm" in page
    assert 'http-equiv="Content-Security-Policy"' in page


@pytest.mark.parametrize(("arguments", "said"), [
    (["mlp", "--compare", "none"], "two or more"),
    (["mlp", "--compare", "none,group"], "two or more"),
    (["rnn"], "invalid choice"),
    (["mlp", "--grid", "0"], "not a number above 0"),
])
def test_wrong_usage_exits_with_2(arguments, said, capsys):
    with pytest.raises(SystemExit) as exit:
        compare_batchnorm.main(arguments)
    assert exit.value.code == 2
    assert said in capsys.readouterr().err


def test_first_steps_prints_true_figures(capsys):
    first_steps.main([])
    said = capsys.readouterr().out
    assert "[3., 5., 7.]" in said
    assert "[ 6., 12., 18.]" in said
