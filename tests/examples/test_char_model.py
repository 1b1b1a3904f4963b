"""The model of text: every variant runs, no place sees what comes after it, and training lowers the loss."""

import numpy as np
import pytest

import minigrad
from minigrad import Tensor, viz
from minigrad.examples import char_model
from minigrad.examples.char_model import CONTEXT, NORMS, CharModel, held_out_loss, read, sample, train

KINDS = pytest.mark.parametrize("kind", ["lstm", "transformer"])


@pytest.fixture(scope="module")
def text():
    return read()


def test_the_text_is_whole(text):
    assert len(text.train) > 300_000
    assert len(text.test) > 30_000
    assert set(np.unique(text.train)) <= set(range(len(text.characters)))
    assert "import" in "".join(text.characters[i] for i in text.train[:20_000])


@KINDS
def test_no_place_sees_what_comes_after_it(kind):
    minigrad.manual_seed(0)
    model = CharModel(kind, "layer", "pre", 20).eval()
    x = np.random.default_rng(0).integers(0, 20, (2, 12))
    other = x.copy()
    other[:, 7:] = (other[:, 7:] + 1) % 20
    a, b = model(Tensor(x)).numpy(), model(Tensor(other)).numpy()
    np.testing.assert_array_equal(a[:, :7], b[:, :7])
    assert not np.array_equal(a[:, 7:], b[:, 7:])


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("norm", sorted(NORMS))
@KINDS
def test_every_variant_runs(kind, norm, place, tmp_path, capsys):
    char_model.main(["--tiny", "--model", kind, "--norm", norm, "--norm-place", place, "--out", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert "bits per character" in said
    assert "\n\nThe " in said
    assert {"config.json", "metrics.jsonl", "model.safetensors"} <= {p.name for p in (tmp_path / "run").iterdir()}


def test_the_comparison_shows_each(tmp_path, capsys):
    char_model.main(["--tiny", "--compare", "none,layer", "--graph", "--out", str(tmp_path / "run")])
    graph = viz.Graph.load(tmp_path / "run" / "graph_train.json")
    assert [op.op for op in graph.top_level()].count("Attention") == char_model.DEPTH
    assert graph.find("LayerNorm")
    said = capsys.readouterr().out
    assert "no normalization" in said
    assert "LayerNorm" in said


def test_training_learns_and_is_repeatable(text):
    options = {"lr": 1e-2, "steps": 12, "batch_size": 8, "seed": 1}
    first, second = (train("lstm", "layer", "pre", text, **options) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters()):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert held_out_loss(first, text) < 5.5 < np.log2(len(text.characters))


def test_a_sample_is_longer_than_the_context(text):
    model = CharModel("transformer", "none", "pre", len(text.characters))
    said = sample(model, text, "The ", CONTEXT + 5, seed=0)
    assert len(said) == CONTEXT + 9
    assert said.startswith("The ")
    assert said == sample(model, text, "The ", CONTEXT + 5, seed=0)


@pytest.mark.parametrize("arguments", [["--norm", "group"], ["--compare", "none,group"], ["--lr", "0"],
                                       ["--steps", "0"]])
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        char_model.main(arguments)
    assert exit.value.code == 2
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "place", "lr"), [("transformer", "pre", 0.04), ("transformer", "post", 0.04),
                                                   ("lstm", "pre", 1.0)])
def test_layer_norm_withstands_a_large_learning_rate(text, kind, place, lr):
    """Measured: see the example's own table."""
    found = {norm: held_out_loss(train(kind, norm, place, text, lr=lr, steps=100, batch_size=16, seed=0), text)
             for norm in ("none", "layer")}
    assert found["layer"] < 5 < np.log2(len(text.characters)) < found["none"]
